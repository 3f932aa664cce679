/** The short movement by which a component that was followed reaches the middle of the picture. */

const DURATION_MS = 280;

function calm(): boolean {
  return window.matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/**
 * Move `node` from where the followed row was to where it is now, and let the bands come up behind it.
 * Another journey may begin at any time: it cancels this one.
 */
export function travelFrom(from: DOMRect, node: Element, bands: Element): void {
  for (const element of [node, bands]) for (const animation of element.getAnimations()) animation.cancel();
  if (calm()) return;
  const to = node.getBoundingClientRect();
  const x = from.x + from.width / 2 - (to.x + to.width / 2);
  const y = from.y + from.height / 2 - (to.y + to.height / 2);
  const easing = "cubic-bezier(0.2, 0.7, 0.2, 1)";
  node.animate(
    [
      { transform: `translate(${x}px, ${y}px)`, opacity: 0.2 },
      { transform: "none", opacity: 1 },
    ],
    {
      duration: DURATION_MS,
      easing,
    },
  );
  bands.animate([{ opacity: 0 }, { opacity: 1 }], { duration: DURATION_MS, easing });
}
