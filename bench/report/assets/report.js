(() => {
  "use strict";

  const HOLD = 4; // frame times that the last frame stays before the videos begin again
  const WIDE = 200; // CSS px that a tile of small frames may have, and that one of larger frames may
  const WIDER = 260;

  // Where numbers came from

  const origins = JSON.parse(document.getElementById("origins").textContent);
  const dialog = document.getElementById("origin");

  const element = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  function showOrigin(key) {
    const cell = origins.cells[key];
    document.getElementById("origin-title").textContent = cell.title;
    document.getElementById("origin-suite").textContent = cell.suite;
    const body = document.getElementById("origin-body");
    body.replaceChildren();
    for (const section of [...cell.sections, ...origins.records[cell.record]]) {
      if (!section.lines.length) continue;
      const list = document.createElement("dl");
      for (const [label, value] of section.lines) list.append(element("dt", label), element("dd", value));
      body.append(element("h3", section.title), list);
    }
    dialog.showModal();
    dialog.scrollTop = 0;
  }

  for (const button of document.querySelectorAll(".cell")) {
    button.addEventListener("click", () => showOrigin(button.dataset.cell));
  }
  document.getElementById("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });

  // Videos

  const bar = document.querySelector(".bar");
  if (!bar) return;

  class Tile {
    constructor(figure, suite) {
      this.figure = figure;
      this.truth = figure.classList.contains("truth");
      this.sheet = figure.querySelector(".sheet");
      this.columns = Number(figure.dataset.columns);
      this.canvas = figure.querySelector(".frame");
      this.values = JSON.parse(figure.dataset.values);
      this.suite = suite;
    }

    /** Frame k of the clip: x1..xT are this tile's own, x0 and before are the context, which the truth's sheet holds. */
    draw(canvas, k) {
      const { context, size } = this.suite;
      const given = k < 1;
      const source = given ? this.first : this;
      const index = source.truth ? k + context - 1 : k - 1;
      const x = (index % source.columns) * size;
      const y = Math.floor(index / source.columns) * size;
      canvas.getContext("2d").drawImage(source.sheet, x, y, size, size, 0, 0, size, size);
      if (canvas === this.canvas) {
        this.figure.classList.toggle("given", given);
        canvas.dataset.shown = String(k);
      }
    }
  }

  const suites = [...document.querySelectorAll(".suite")].map((section) => {
    const suite = {
      section,
      context: Number(section.dataset.context),
      horizon: Number(section.dataset.horizon),
      size: Number(section.dataset.size),
      select: section.querySelector(".metric"),
    };
    suite.clips = [...section.querySelectorAll(".clip")].map((article) => {
      const tiles = [...article.querySelectorAll(".tile")].map((figure) => new Tile(figure, suite));
      for (const tile of tiles) tile.first = tiles[0];
      return { article, tiles, roles: JSON.parse(article.dataset.roles) };
    });
    return suite;
  });

  const scrub = document.getElementById("scrub");
  const play = document.getElementById("play");
  const speed = document.getElementById("speed");
  const poke = document.getElementById("poke");
  const now = document.getElementById("now");
  const usual = speed.selectedIndex;
  const slow = Math.max(speed.options.length - 2, 0); // 2 frames a second
  const first = Number(bar.dataset.first);
  const last = Number(bar.dataset.last);

  // One clock for all videos: a frame number, x0 at 0.
  const clock = { frame: first, playing: false, held: 0, due: 0, request: 0 };

  function drawAll() {
    for (const suite of suites) {
      const k = Math.min(Math.max(clock.frame, 1 - suite.context), suite.horizon);
      for (const clip of suite.clips) {
        if (clip.article.classList.contains("off")) continue;
        for (const tile of clip.tiles) tile.draw(tile.canvas, k);
      }
    }
    scrub.value = String(clock.frame);
    const name = `x${String(clock.frame).replace("-", "−")}`;
    now.textContent = clock.frame < 1 ? `${name} (given)` : `${name} of x${last}`;
    scrub.setAttribute("aria-valuetext", now.textContent);
  }

  function seek(frame) {
    clock.frame = Math.min(Math.max(frame, first), last);
    clock.held = 0;
    drawAll();
  }

  function setPlaying(on) {
    clock.playing = on;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
    cancelAnimationFrame(clock.request);
    if (!on) return;
    clock.due = performance.now() + 1000 / Number(speed.value);
    clock.request = requestAnimationFrame(tick);
  }

  function tick(time) {
    if (!clock.playing) return;
    const period = 1000 / Number(speed.value);
    if (time >= clock.due) {
      clock.due = Math.max(clock.due + period, time); // after a pause of the browser the videos go on where they were
      if (clock.frame < last) clock.frame += 1;
      else if (clock.held < HOLD) clock.held += 1;
      else [clock.frame, clock.held] = [first, 0];
      drawAll();
    }
    clock.request = requestAnimationFrame(tick);
  }

  function step(by) {
    setPlaying(false);
    seek(clock.frame + by);
  }

  function choose(suite) {
    const metric = suite.select.value;
    const order = ["best", "median", "worst"];
    for (const clip of suite.clips) {
      const role = clip.roles[metric];
      clip.article.classList.toggle("off", !role);
      clip.article.style.order = String(order.indexOf(role));
      for (const label of clip.article.querySelectorAll(".role")) {
        label.classList.toggle("on", label.dataset.metric === metric);
      }
      for (const tile of clip.tiles) tile.figure.querySelector(".score").textContent = tile.values[metric] ?? "";
    }
    drawAll();
  }

  /** Tiles a whole number of screen pixels for each pixel of the frame, so that enlarging adds nothing. */
  function fit() {
    const ratio = window.devicePixelRatio || 1;
    for (const suite of suites) {
      const clips = suite.section.querySelector(".clips");
      if (!clips) continue;
      const wide = Math.min(suite.size > 66 ? WIDER : WIDE, (clips.clientWidth - 8) / 2);
      const times = Math.floor((wide * ratio) / suite.size);
      clips.classList.toggle("crisp", times >= 1);
      clips.style.setProperty("--tile", `${times >= 1 ? (times * suite.size) / ratio : wide}px`);
    }
  }

  scrub.addEventListener("input", () => {
    setPlaying(false);
    seek(Number(scrub.value));
  });
  play.addEventListener("click", () => setPlaying(!clock.playing));
  document.getElementById("back").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  speed.addEventListener("change", () => {
    if (clock.playing) clock.due = performance.now() + 1000 / Number(speed.value);
  });
  if (poke) poke.addEventListener("change", () => document.body.classList.toggle("no-poke", !poke.checked));
  for (const suite of suites) if (suite.select) suite.select.addEventListener("change", () => choose(suite));
  window.addEventListener("resize", fit);

  const keys = {
    " ": () => setPlaying(!clock.playing),
    ArrowLeft: () => step(-1),
    ArrowRight: () => step(1),
    Home: () => step(first - clock.frame),
    End: () => step(last - clock.frame),
    s: () => {
      speed.selectedIndex = speed.selectedIndex === slow ? usual : slow;
      clock.due = performance.now() + 1000 / Number(speed.value);
    },
    p: () => poke && poke.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target.matches("select")) return;
    if (target === scrub && /^(Arrow|Home|End)/.test(event.key)) return;
    if (event.key === " " && target.matches("button, input[type=checkbox], a")) return;
    if (event.key.startsWith("Arrow") && target.matches(".scroll")) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  still.addEventListener("change", () => {
    if (still.matches) setPlaying(false);
  });

  const tiles = suites.flatMap((suite) => suite.clips.flatMap((clip) => clip.tiles));
  Promise.all(tiles.map((tile) => tile.sheet.decode())).then(() => {
    for (const tile of tiles) {
      for (const canvas of tile.figure.querySelectorAll(".stills canvas")) tile.draw(canvas, Number(canvas.dataset.frame));
    }
    fit();
    for (const suite of suites) if (suite.select) choose(suite);
    document.body.dataset.ready = "true";
    setPlaying(!still.matches);
  });
})();
