/** Prompts or graphs were added, renamed or deleted: lists that show them depend on `count`. */

class Changes {
  count = $state(0);

  note(): void {
    this.count += 1;
  }
}

export const changes = new Changes();
