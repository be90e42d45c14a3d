// One method and what it shows: a canvas with the frames, the poke on top, and a line of text.

import * as api from "./api.js";
import { between, drawPoke, inside, targetOf } from "./poke.js";

const SHORTEST = 0.75; // px; shorter is a click, and no poke

export class Panel {
  /** `moved(poke, done)` is called while the poke is dragged, and with done = true when it is let go. */
  constructor(root, page, moved) {
    Object.assign(this, { root, page, moved, scene: null, picture: null, answer: null });
    this.canvas = root.querySelector("canvas");
    this.stage = root.querySelector(".stage");
    this.svg = root.querySelector("svg");
    this.select = root.querySelector("select");
    this.canvas.width = this.canvas.height = page.size;
    this.context = this.canvas.getContext("2d");
    this.select.replaceChildren(...page.methods.map(({ key, label }) => new Option(label, key)));
    this.stage.addEventListener("pointerdown", (event) => this.grab(event));
  }

  get method() {
    return this.page.methods.find(({ key }) => key === this.select.value);
  }

  /** Shows another picture, and no answer. */
  async open(scene) {
    this.scene = scene;
    const picture = await api.bitmap(api.pictureAddress(scene.key));
    if (this.scene !== scene) return;
    this.picture = picture;
    this.clear();
  }

  /** Forgets the answer; says whether the method can answer for this picture. */
  clear() {
    this.answer = null;
    this.wanted = null;
    this.show(0);
    const refused = this.scene?.refused[this.method.key];
    const about = this.scene?.poke ? "The arrow is the poke of the data; Enter tries it." : this.scene?.remark;
    this.say(refused ?? about ?? "", Boolean(refused));
    this.select.title = this.method.label;
    this.root.querySelector(".notes").textContent = this.method.notes;
  }

  /** The number of frames there are, x0 counted. */
  get frames() {
    return this.answer?.frames ?? 1;
  }

  /** Draws a frame; an answer that is shorter than another keeps its last. */
  show(frame) {
    const { size } = this.page;
    if (!this.answer) {
      if (this.picture) this.context.drawImage(this.picture, 0, 0);
      return;
    }
    const top = Math.min(frame, this.answer.frames - 1) * size;
    this.context.drawImage(this.answer.strip, 0, top, size, size, 0, 0, size, size);
  }

  say(text, bad = false) {
    const line = this.root.querySelector(".status");
    line.textContent = text;
    line.classList.toggle("bad", bad);
  }

  draw(poke) {
    drawPoke(this.svg, poke, this.page.size);
    const [start, target] = this.root.querySelectorAll(".handle");
    if (!start) return;
    const [toX, toY] = targetOf(poke);
    this.place(start, "Start of the poke", poke.x, poke.y);
    this.place(target, "Target of the poke", toX, toY);
  }

  place(handle, name, x, y) {
    handle.style.left = `${((x + 0.5) / this.page.size) * 100}%`;
    handle.style.top = `${((y + 0.5) / this.page.size) * 100}%`;
    handle.setAttribute("aria-label", `${name}: x ${x.toFixed(1)}, y ${y.toFixed(1)} px`);
  }

  /** Asks for an answer. Of several pokes that come while the method is busy, the last one counts. */
  ask(poke, seed) {
    this.wanted = { poke, seed, scene: this.scene, method: this.method };
    this.say(`${this.method.label} is answering …`);
    this.stage.classList.add("waiting");
    this.running ??= this.answerAll().finally(() => {
      this.running = null;
      this.stage.classList.remove("waiting");
    });
    return this.running;
  }

  async answerAll() {
    while (this.wanted) {
      const asked = this.wanted;
      let answer = null;
      let fault = "";
      try {
        answer = await api.ask(asked.method.key, asked.scene.key, asked.poke, asked.seed);
      } catch (error) {
        fault = error.message;
      }
      if (this.wanted !== asked) continue; // a later poke, another picture or method came between
      this.wanted = null;
      this.answer = answer;
      if (answer) this.say(`${time(answer.seconds)}. ${answer.note}`);
      else this.say(fault, true);
      this.show(0);
    }
  }

  /** A drag: from either end of the poke it gives it another target, from anywhere else it begins a new poke. */
  grab(event) {
    if (event.button !== 0 || !this.scene) return;
    event.preventDefault();
    const handle = event.target.closest(".handle");
    handle?.focus();
    const before = this.poke();
    const pressed = this.at(event);
    const start = handle ? [before.x, before.y] : inside(pressed, this.page.size);
    let poke = null; // null: a click so far
    const drag = (last) => {
      const to = this.at(last);
      if (!poke && Math.hypot(to[0] - pressed[0], to[1] - pressed[1]) < SHORTEST) return;
      poke = between(start, to, this.page.size);
      this.moved(poke, false);
    };
    const drop = (last) => {
      this.stage.removeEventListener("pointermove", drag);
      this.stage.removeEventListener("pointerup", drop);
      this.stage.removeEventListener("pointercancel", drop);
      if (!poke) return;
      const done = last.type === "pointerup" && Math.hypot(poke.dx, poke.dy) >= SHORTEST;
      this.moved(done ? poke : before, done);
    };
    this.stage.setPointerCapture(event.pointerId);
    this.stage.addEventListener("pointermove", drag);
    this.stage.addEventListener("pointerup", drop);
    this.stage.addEventListener("pointercancel", drop);
  }

  /** Where a pointer is, in pixels of the picture. */
  at(event) {
    const box = this.stage.getBoundingClientRect();
    const scale = this.page.size / box.width;
    return [(event.clientX - box.left) * scale - 0.5, (event.clientY - box.top) * scale - 0.5];
  }
}

function time(seconds) {
  return seconds < 1 ? `Answered in ${Math.round(seconds * 1000)} ms` : `Answered in ${seconds.toFixed(1)} s`;
}
