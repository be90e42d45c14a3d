// The poke: a point (x, y) and a displacement (dx, dy), in pixels of the picture, pixel centres at whole numbers.

const SVG = "http://www.w3.org/2000/svg";

const tenth = (value) => Math.round(value * 10) / 10;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** A point inside a picture of `size` px, to the nearest pixel, or to a tenth of one. */
export function inside([x, y], size, round = Math.round) {
  return [clamp(round(x), 0, size - 1), clamp(round(y), 0, size - 1)];
}

/** The poke from a start to a target, both [x, y]. */
export function between(start, target, size) {
  const [x, y] = inside(start, size, tenth);
  const [toX, toY] = inside(target, size, tenth);
  return { x, y, dx: tenth(toX - x), dy: tenth(toY - y) };
}

/** Where the poke is to take the point. */
export function targetOf(poke) {
  return [poke.x + poke.dx, poke.y + poke.dy];
}

/** Draws the poke into an SVG element: a red arrow with a white casing, a ring at its start, a dot at its target. */
export function drawPoke(svg, poke, size) {
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  const unit = size / 64;
  const [x, y] = [poke.x + 0.5, poke.y + 0.5];
  const [toX, toY] = [x + poke.dx, y + poke.dy];
  const length = Math.hypot(poke.dx, poke.dy);
  const parts = [
    shape("circle", "ring-casing", { cx: x, cy: y, r: 1.05 * unit, "stroke-width": 0.95 * unit }),
  ];
  const dot = 1.05 * unit;
  const head = Math.min(2.3 * unit, length);
  if (length > dot) {
    const [ux, uy] = [poke.dx / length, poke.dy / length];
    const tip = [toX - ux * dot * 0.6, toY - uy * dot * 0.6];
    const base = [tip[0] - ux * head, tip[1] - uy * head];
    const side = 0.55 * head;
    const corners = [tip, [base[0] - uy * side, base[1] + ux * side], [base[0] + uy * side, base[1] - ux * side]];
    const points = corners.map((corner) => corner.join(",")).join(" ");
    const shaft = { x1: x, y1: y, x2: base[0], y2: base[1] };
    parts.push(
      shape("line", "casing", { ...shaft, "stroke-width": 1.25 * unit }),
      shape("polygon", "casing", { points, "stroke-width": 0.8 * unit }),
      shape("line", "shaft", { ...shaft, "stroke-width": 0.6 * unit }),
      shape("polygon", "head", { points }),
    );
  }
  parts.push(
    shape("circle", "ring", { cx: x, cy: y, r: 1.05 * unit, "stroke-width": 0.5 * unit }),
    shape("circle", "dot", { cx: toX, cy: toY, r: dot, "stroke-width": 0.35 * unit }),
  );
  svg.replaceChildren(...parts);
}

function shape(tag, name, attributes) {
  const found = document.createElementNS(SVG, tag);
  found.setAttribute("class", name);
  for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
  return found;
}
