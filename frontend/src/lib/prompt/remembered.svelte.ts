/** What was chosen last for graphs, for as long as the page is open. Targets belong to a prompt, not here. */

import type { GraphSettings } from "../api/promptTypes";
import { USUAL } from "./settings";

class Remembered {
  settings: GraphSettings = $state.raw(USUAL);
  open = $state(false);
}

export const remembered = new Remembered();
