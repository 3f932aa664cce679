/** The drawing as a picture of its own size, for when no canvas is on screen to take it from. */

import { fit, hold, toView } from "../graph/geometry";
import { layOut, proportionFor } from "../graph/layout";
import type { Look } from "../graph/paint";
import { DARK, LIGHT } from "../graph/palette";
import { picturePng, pictureSvg } from "../graph/picture";
import { type Scene, makeScene } from "../graph/scene";
import type { OnScreen } from "./graphPage";

const WINDOW = { width: 1500, height: 900 };

function sceneOf(screen: OnScreen, dark: boolean): { readonly scene: Scene; readonly look: Look } {
  const { data, metric, shown, selection, pinned, matches, called, colouring, viewport } = screen;
  const layout = layOut(data, {
    order: "strength",
    proportion: proportionFor(WINDOW),
    include: screen.compact ? shown.nodes : null,
  });
  const fitted = fit(layout, WINDOW);
  const view = viewport === null ? fitted : hold(toView(viewport, layout, WINDOW), layout, WINDOW);
  const palette = dark ? DARK : LIGHT;
  return {
    scene: makeScene({
      ...{ data, metric, layout, shown, palette, selection, pinned, matches },
      ...(called === undefined ? {} : { called }),
      colouring: colouring ?? null,
    }),
    look: { view, window: WINDOW, fitScale: fitted.scale },
  };
}

export function screenSvg(screen: OnScreen, caption: string, dark: boolean): string {
  const { scene, look } = sceneOf(screen, dark);
  return pictureSvg(scene, look, screen.title, caption);
}

export function screenPng(screen: OnScreen, caption: string, dark: boolean): Promise<Blob> {
  const { scene, look } = sceneOf(screen, dark);
  return picturePng(scene, look, screen.title, caption, 2);
}
