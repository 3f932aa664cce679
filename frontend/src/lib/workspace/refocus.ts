import { tick } from "svelte";

/**
 * A button that takes its own list item away: afterwards the keyboard is at the same button of the item that
 * took its place, or where the list is empty, at what is in front of it.
 */
export async function refocus(button: HTMLElement): Promise<void> {
  const item = button.closest("li");
  const list = item?.parentElement;
  if (!item || !list) return;
  const at = [...list.children].indexOf(item);
  const which = [...item.querySelectorAll("button")].findIndex((one) => one === button);
  const place = list.closest("section") ?? list.parentElement;
  await tick();
  if (item.isConnected) return;
  const next = list.children[Math.min(at, list.children.length - 1)];
  const buttons = next?.querySelectorAll("button") ?? [];
  const target =
    buttons[which] ?? buttons[buttons.length - 1] ?? place?.querySelector("button:not(:disabled)");
  const heading = place?.querySelector<HTMLElement>("h3");
  if (target instanceof HTMLElement) target.focus();
  else if (heading) {
    heading.tabIndex = -1;
    heading.focus();
  }
}
