// The page: what is chosen, what is poked, and what follows from it.

import * as api from "./api.js";
import { Panel } from "./panel.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { between, targetOf } from "./poke.js";
import { refreshSaving, setUpSaving } from "./saving.js";

const $ = (id) => document.getElementById(id);
const FIELDS = ["x", "y", "dx", "dy"];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function fault(text) {
  $("fault").textContent = text;
  $("fault").hidden = !text;
}

async function main() {
  const page = await api.openPage();
  let poke = null;
  let asked = 0;
  let waiting = false; // for answers that are yet to be presented

  const moved = (next, done) => {
    forget(panels);
    setPoke(next);
    if (done) answer(shown());
  };
  const panels = ["panel-a", "panel-b"].map((id) => new Panel($(id), page, moved));
  for (const panel of panels) panel.poke = () => poke;
  const shown = () => ($("compare").checked ? panels : panels.slice(0, 1));

  const player = new Player(page.rate, showFrame, (playing) => {
    $("play").textContent = playing ? "Pause" : "Play";
  });

  function showFrame(frame) {
    for (const panel of shown()) panel.show(frame);
    const last = player.frames - 1;
    $("scrubber").value = frame;
    $("frame").value = frame === 0 ? "x0" : `x${frame} of ${last}`;
    $("scrubber").setAttribute("aria-valuetext", `frame ${frame} of ${last}`);
  }

  /** What there is to play and to save. */
  function refresh() {
    const still = player.frames < 2;
    $("play").disabled = $("scrubber").disabled = still;
    $("sample").hidden = !shown().some((panel) => panel.method.stochastic);
    refreshSaving(shown());
  }

  function setPoke(next) {
    poke = next;
    for (const panel of panels) panel.draw(poke);
    for (const field of FIELDS) $(field).value = Number(poke[field].toFixed(2));
  }

  /** Asks `these` panels for what follows from the poke. */
  function answer(these) {
    player.load(1);
    fault("");
    const seed = Number($("seed").value) || 0;
    for (const panel of these) panel.ask(poke, seed);
    settle();
  }

  /** Presents what is answered when the last of the panels shown has answered, unless more is asked before. */
  async function settle() {
    const mine = ++asked;
    waiting = true;
    await Promise.all(shown().map((panel) => panel.wanted && panel.running));
    if (mine === asked) present();
  }

  /** Plays what was answered; shows its last frame where motion is unwelcome. */
  function present() {
    waiting = false;
    player.load(Math.max(...shown().map((panel) => panel.frames)));
    $("scrubber").max = Math.max(player.frames - 1, 1);
    refresh();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) player.seek(player.frames - 1);
    else player.play();
  }

  /** Forgets the answers of `these` panels; those of other panels that are under way are still presented. */
  function forget(these) {
    asked += 1;
    for (const panel of these) panel.clear();
    player.load(Math.max(...shown().map((panel) => panel.frames)));
    refresh();
    waiting &&= shown().some((panel) => panel.wanted || panel.answer);
    if (waiting) settle();
  }

  async function choose(scene) {
    fault("");
    try {
      await Promise.all(panels.map((panel) => panel.open(scene)));
    } catch (error) {
      fault(error.message);
      return;
    }
    const middle = (page.size - 1) / 2;
    const known = scene.poke && { x: scene.poke.location[0], y: scene.poke.location[1], dx: scene.poke.displacement[0], dy: scene.poke.displacement[1] };
    setPoke(known ?? between([middle, middle], [middle + page.size / 8, middle], page.size));
    forget(panels);
  }

  /** A panel shows another method, or has come into view: it answers what was asked before. */
  function renew(panel) {
    const before = shown().some((other) => other.wanted || other.answer);
    forget([panel]);
    if (before) answer([panel]);
  }

  for (const panel of panels) panel.select.addEventListener("change", () => renew(panel));
  $("compare").addEventListener("change", () => {
    $("panel-b").hidden = !$("compare").checked;
    $("panels").classList.toggle("two", $("compare").checked);
    if ($("compare").checked) renew(panels[1]);
    else forget(panels.slice(1));
  });
  $("compare").closest("label").hidden = page.methods.length < 2;
  if (page.methods.length > 1) panels[1].select.selectedIndex = 1;
  $("show-poke").addEventListener("change", () => $("panels").classList.toggle("without-poke", !$("show-poke").checked));
  $("smooth").addEventListener("change", () => $("panels").classList.toggle("smooth", $("smooth").checked));
  $("play").addEventListener("click", () => player.toggle());
  $("speed").addEventListener("change", () => player.setSpeed(Number($("speed").value)));
  $("scrubber").addEventListener("input", () => {
    player.pause();
    player.seek(Number($("scrubber").value));
  });
  $("poke").addEventListener("submit", (event) => {
    event.preventDefault();
    answer(shown());
  });
  $("poke").addEventListener("input", (event) => {
    if (event.target.id === "seed" || FIELDS.some((field) => !$(field).checkValidity())) return;
    forget(panels);
    poke = Object.fromEntries(FIELDS.map((field) => [field, Number($(field).value)]));
    for (const panel of panels) panel.draw(poke);
  });

  document.addEventListener("keydown", (event) => {
    const handle = event.target.closest?.(".handle");
    const own = event.target.closest?.("button, select, input, summary, a");
    const range = event.target === $("scrubber");
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " " && (!own || handle || range)) player.toggle();
    else if (event.key === "Enter" && (!own || handle || range)) answer(shown());
    else if ([",", "."].includes(event.key) && (!own || own.type !== "number")) {
      player.pause();
      player.seek(player.frame + (event.key === "." ? 1 : -1));
    } else if (event.key in ARROWS && (!own || handle)) nudge(ARROWS[event.key], event.shiftKey ? 5 : 1, handle);
    else return;
    event.preventDefault();
  });

  function nudge([right, down], step, handle) {
    const by = ([x, y]) => [x + step * right, y + step * down];
    const start = [poke.x, poke.y];
    const atStart = handle?.classList.contains("start");
    moved(between(atStart ? by(start) : start, atStart ? targetOf(poke) : by(targetOf(poke)), page.size), false);
  }

  setUpSaving(shown, fault);
  const pictures = new Pictures(page, choose, fault);
  pictures.choose($("scenes").querySelector("input"));
}

main().catch((error) => fault(error.message));
