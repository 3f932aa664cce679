/*
 * The script inside a graph's self-contained page: draws what the page's JSON holds, pans, zooms, and says
 * what is pointed at. Plain JavaScript, since it is put into the file as it stands here; no requests.
 */
(() => {
  const graph = JSON.parse(document.getElementById("graph").textContent);
  const canvas = document.getElementById("drawing");
  const context = canvas.getContext("2d");
  const told = document.getElementById("told");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const { nodes, edges, rows, columns, palettes, look } = graph;
  const HEAD = 52;
  const SIDE = 84;
  const count = nodes.x.length;
  const links = Array.from({ length: count }, () => []);
  edges.s.forEach((source, edge) => {
    links[source].push(edge);
    links[edges.t[edge]].push(edge);
  });

  let size = { width: 0, height: 0 };
  let view = { x: graph.width / 2, y: graph.height / 2, scale: 1 };
  let pointed = null;
  let held = null;
  let queued = false;

  const plot = () => ({ width: Math.max(1, size.width - SIDE), height: Math.max(1, size.height - HEAD) });
  const fitScale = () => Math.min((plot().width - 8) / graph.width, (plot().height - 8) / graph.height);
  const px = (x) => (x - view.x) * view.scale + SIDE + plot().width / 2;
  const py = (y) => (y - view.y) * view.scale + HEAD + plot().height / 2;

  function curve(edge) {
    const [s, t] = [edges.s[edge], edges.t[edge]];
    const rise = nodes.y[s] - nodes.y[t];
    const bow = Math.min(18, 2 + 0.05 * Math.abs(rise)) * (edges.v[edge] >= 0 ? 1 : -1);
    const reach = Math.max(6, 0.46 * Math.abs(rise));
    return [
      px(nodes.x[s]),
      py(nodes.y[s]),
      px(nodes.x[s] + bow),
      py(nodes.y[s] - reach),
      px(nodes.x[t] + bow),
      py(nodes.y[t] + reach),
      px(nodes.x[t]),
      py(nodes.y[t]),
    ];
  }

  function line(edge, colours, alpha, wide) {
    const [x0, y0, x1, y1, x2, y2, x3, y3] = curve(edge);
    context.beginPath();
    context.moveTo(x0, y0);
    context.bezierCurveTo(x1, y1, x2, y2, x3, y3);
    context.globalAlpha = alpha;
    context.lineWidth = wide;
    context.strokeStyle = edges.v[edge] >= 0 ? colours.positive : colours.negative;
    context.setLineDash(edges.v[edge] >= 0 ? [] : [5, 3]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  /** Edges come strongest first: their rank says how they look, as in the page they come from. */
  function drawnAs(rank) {
    const found = look.findLast((one) => rank >= one.from) ?? look[0];
    return { width: found.width, alpha: found.alpha };
  }

  const radius = (node) => nodes.r[node] * Math.min(2.2, Math.max(0.8, view.scale / graph.scale));

  /** Of a node that belongs to something: as that is painted. */
  function inkOf(node, colours) {
    const ink = nodes.c[node];
    if (typeof ink === "number") return colours.hues[ink];
    return { neutral: colours.neutral, cross: colours.inkSoft }[ink] ?? colours.ink;
  }

  function cross(node, colours) {
    const [x, y, r] = [px(nodes.x[node]), py(nodes.y[node]), 0.85 * radius(node)];
    context.beginPath();
    for (const way of [1, -1]) {
      context.moveTo(x - r, y - way * r);
      context.lineTo(x + r, y + way * r);
    }
    context.lineWidth = 1.5;
    context.strokeStyle = nodes.f[node] & 1 ? colours.accent : colours.inkSoft;
    context.stroke();
  }

  function mark(node, colours) {
    const [x, y, r] = [px(nodes.x[node]), py(nodes.y[node]), radius(node)];
    context.beginPath();
    const shape = nodes.s[node];
    if (shape === "square") context.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
    else if (shape === "triangle" || shape === "diamond") {
      const points =
        shape === "triangle"
          ? [
              [0, -1],
              [1, 0.8],
              [-1, 0.8],
            ]
          : [
              [0, -1.2],
              [1.2, 0],
              [0, 1.2],
              [-1.2, 0],
            ];
      points.forEach(([dx, dy], n) => context[n === 0 ? "moveTo" : "lineTo"](x + dx * r, y + dy * r));
      context.closePath();
    } else context.arc(x, y, r, 0, 2 * Math.PI);
    const hollow = shape === "ring" || shape === "triangle";
    const crossed = nodes.c[node] === "cross";
    const chosen = (nodes.f[node] & 1) === 1;
    const plain = chosen && nodes.c[node] === null ? colours.accent : inkOf(node, colours);
    context.fillStyle = hollow || crossed ? colours.paper : plain;
    context.fill();
    context.lineWidth = chosen && nodes.c[node] !== null ? 2 : 1;
    context.strokeStyle = hollow
      ? colours.ink
      : chosen && nodes.c[node] !== null
        ? colours.accent
        : colours.paper;
    context.stroke();
    if (crossed) cross(node, colours);
    if (nodes.f[node] & 2 || node === pointed?.node) {
      context.beginPath();
      context.arc(x, y, r + 3, 0, 2 * Math.PI);
      context.lineWidth = 1.5;
      context.strokeStyle = node === pointed?.node ? colours.ink : colours.accent;
      context.stroke();
    }
  }

  function draw() {
    queued = false;
    const colours = palettes[dark.matches ? "dark" : "light"];
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.paper;
    context.fillRect(0, 0, size.width, size.height);
    context.save();
    context.beginPath();
    context.rect(SIDE, HEAD, plot().width, plot().height);
    context.clip();
    context.fillStyle = colours.wash;
    for (const row of rows)
      if (row.block !== null && row.block % 2 === 1)
        context.fillRect(px(0), py(row.top), graph.width * view.scale, row.height * view.scale);
    const around =
      pointed === null ? null : new Set(pointed.edge === undefined ? links[pointed.node] : [pointed.edge]);
    const grow = Math.min(2, Math.max(0.8, Math.sqrt(view.scale / fitScale())));
    for (let edge = edges.s.length - 1; edge >= 0; edge -= 1) {
      const { width, alpha } = drawnAs(edge);
      if (!around?.has(edge)) line(edge, colours, around === null ? alpha : alpha / 5, width * grow);
    }
    for (const edge of around ?? []) line(edge, colours, 0.95, Math.max(1.6, drawnAs(edge).width * grow));
    for (let node = 0; node < count; node += 1) mark(node, colours);
    context.font = "600 13px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
    context.textAlign = "left";
    for (let node = 0; node < count; node += 1) {
      if (nodes.w[node] === null) continue;
      const [x, y] = [px(nodes.x[node]) + radius(node) + 8, py(nodes.y[node])];
      context.fillStyle = colours.paper;
      context.fillRect(x - 3, y - 10, context.measureText(nodes.w[node]).width + 6, 20);
      context.fillStyle = colours.ink;
      context.fillText(nodes.w[node], x, y + 4);
    }
    context.restore();
    heads(colours);
  }

  function heads(colours) {
    context.font = "13px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
    context.fillStyle = colours.inkSoft;
    context.strokeStyle = colours.hairline;
    context.textAlign = "right";
    let block = null;
    for (const row of rows) {
      const middle = py(row.top + row.height / 2) + 4;
      if (middle < HEAD || middle > size.height) continue;
      if (row.height * view.scale >= 13) context.fillText(row.name, SIDE - 8, middle);
      if (row.block !== null && row.block !== block) {
        context.textAlign = "left";
        context.fillText(String(row.block), 8, middle);
        context.textAlign = "right";
      }
      block = row.block;
    }
    context.save();
    context.beginPath();
    context.rect(SIDE, 0, plot().width, size.height);
    context.clip();
    context.textAlign = "left";
    for (const column of columns) {
      const [from, to] = [px(column.left), px(column.left + column.width)];
      context.beginPath();
      context.moveTo(Math.round(from) + 0.5, HEAD - 8);
      context.lineTo(Math.round(from) + 0.5, size.height);
      context.stroke();
      const letters = Math.floor((to - from - 8) / 7.8);
      const text = [...column.text];
      if (letters < 2) continue;
      context.fillText(String(column.position), from + 5, 18);
      context.fillText(
        text.length > letters ? text.slice(0, letters - 1).join("") + "…" : column.text,
        from + 5,
        38,
      );
    }
    context.restore();
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(draw);
  }

  function bounded() {
    const least = fitScale() / 2;
    view.scale = Math.min(Math.max(view.scale, least), 16 * Math.max(1, least));
    view.x = Math.min(Math.max(view.x, 0), graph.width);
    view.y = Math.min(Math.max(view.y, 0), graph.height);
    redraw();
  }

  function zoom(factor, x, y) {
    const [dx, dy] = [x - SIDE - plot().width / 2, y - HEAD - plot().height / 2];
    const before = view.scale;
    view.scale = Math.min(Math.max(before * factor, fitScale() / 2), 16 * Math.max(1, fitScale() / 2));
    view.x += dx / before - dx / view.scale;
    view.y += dy / before - dy / view.scale;
    bounded();
  }

  function fit() {
    view = { x: graph.width / 2, y: graph.height / 2, scale: fitScale() };
    bounded();
  }

  function nearest(x, y) {
    let best = null;
    let least = 9;
    for (let node = 0; node < count; node += 1) {
      const away = Math.hypot(px(nodes.x[node]) - x, py(nodes.y[node]) - y) - radius(node);
      if (away < least) [best, least] = [{ node }, away];
    }
    if (best !== null) return best;
    least = 5;
    edges.s.forEach((_, edge) => {
      const [x0, y0, x1, y1, x2, y2, x3, y3] = curve(edge);
      if (x < Math.min(x0, x3) - 30 || x > Math.max(x0, x3) + 30) return;
      if (y < Math.min(y0, y3) - 30 || y > Math.max(y0, y3) + 30) return;
      for (let n = 0; n <= 24; n += 1) {
        const t = n / 24;
        const u = 1 - t;
        const cx = u * u * u * x0 + 3 * u * u * t * x1 + 3 * u * t * t * x2 + t * t * t * x3;
        const cy = u * u * u * y0 + 3 * u * u * t * y1 + 3 * u * t * t * y2 + t * t * t * y3;
        const away = Math.hypot(cx - x, cy - y);
        if (away < least) [best, least] = [{ edge }, away];
      }
    });
    return best;
  }

  const signed = (value) => (value < 0 ? "−" : "+") + String(Math.abs(value));

  function row(words, value) {
    const line = document.createElement("p");
    line.append(words, " ");
    const number = document.createElement("b");
    number.textContent = value;
    line.append(number);
    return line;
  }

  function tell() {
    const name = (node) => nodes.k[node] + (nodes.l[node] === null ? "" : ` ${nodes.l[node]}`);
    const parts = [];
    if (pointed?.edge !== undefined) {
      const { edge } = pointed;
      parts.push(row("from", name(edges.s[edge])), row("to", name(edges.t[edge])));
      parts.push(row(graph.metric, signed(edges.v[edge])));
    } else if (pointed !== null) {
      const { node } = pointed;
      parts.push(row("", name(node)));
      if (nodes.b[node] !== null) parts.push(row("", nodes.b[node]));
      for (const [words, values] of graph.values)
        if (values[node] !== null) parts.push(row(words, String(values[node])));
      if (nodes.n[node]) parts.push(row("note:", nodes.n[node]));
      for (const [words, ends, others] of [
        ["from", edges.t, edges.s],
        ["to", edges.s, edges.t],
      ]) {
        // Edges come strongest first.
        for (const edge of links[node].filter((one) => ends[one] === node).slice(0, 5))
          parts.push(row(`${words} ${name(others[edge])}`, signed(edges.v[edge])));
      }
    }
    if (parts.length === 0) told.textContent = told.dataset.rest;
    else told.replaceChildren(...parts);
  }

  function point(hit) {
    if (hit?.node === pointed?.node && hit?.edge === pointed?.edge) return;
    pointed = hit;
    tell();
    redraw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, y: event.clientY };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held !== null) {
      view.x -= (event.clientX - held.x) / view.scale;
      view.y -= (event.clientY - held.y) / view.scale;
      held = { x: event.clientX, y: event.clientY };
      bounded();
      return;
    }
    const box = canvas.getBoundingClientRect();
    point(nearest(event.clientX - box.left, event.clientY - box.top));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = null));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(
        Math.exp(-Math.max(-240, Math.min(240, event.deltaY)) * 0.003),
        event.clientX - box.left,
        event.clientY - box.top,
      );
    },
    { passive: false },
  );
  const middle = (factor) => zoom(factor, SIDE + plot().width / 2, HEAD + plot().height / 2);
  const keys = {
    "+": () => middle(1.35),
    "=": () => middle(1.35),
    "-": () => middle(1 / 1.35),
    0: fit,
    ArrowLeft: () => (view.x -= 60 / view.scale),
    ArrowRight: () => (view.x += 60 / view.scale),
    ArrowUp: () => (view.y -= 60 / view.scale),
    ArrowDown: () => (view.y += 60 / view.scale),
    n: () => point({ node: pointed?.node === undefined ? 0 : (pointed.node + 1) % count }),
    p: () => point({ node: ((pointed?.node ?? 0) + count - 1) % count }),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || keys[event.key] === undefined || count === 0)
      return;
    event.preventDefault();
    keys[event.key]();
    bounded();
  });
  document.getElementById("in").addEventListener("click", () => middle(1.35));
  document.getElementById("out").addEventListener("click", () => middle(1 / 1.35));
  document.getElementById("fit").addEventListener("click", fit);
  dark.addEventListener("change", redraw);

  let seen = false;
  new ResizeObserver(() => {
    size = { width: canvas.clientWidth, height: canvas.clientHeight };
    if (!seen && graph.viewport !== null) {
      const { x, y, scale } = graph.viewport;
      view = { x: x * graph.width, y: y * graph.height, scale: scale * fitScale() };
      bounded();
    } else if (!seen) fit();
    else bounded();
    seen = true;
    canvas.dataset.drawn = String(edges.s.length);
  }).observe(canvas);
})();
