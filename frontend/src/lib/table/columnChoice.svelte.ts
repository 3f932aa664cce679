/** The columns of the table that were chosen in this browser; `null`: as many as fit. */

import { type ColumnId, readColumns } from "./columns";

const STORED_AS = "tributary-columns";

class ColumnChoice {
  /** Those on screen, as the table says. */
  onScreen: readonly ColumnId[] = $state.raw([]);
  #columns: readonly ColumnId[] | null = $state.raw(readColumns(localStorage.getItem(STORED_AS)));

  get columns(): readonly ColumnId[] | null {
    return this.#columns;
  }

  set columns(columns: readonly ColumnId[] | null) {
    this.#columns = columns;
    if (columns === null) localStorage.removeItem(STORED_AS);
    else localStorage.setItem(STORED_AS, columns.join(","));
  }
}

export const columnChoice = new ColumnChoice();
