// Saves answers as files.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const VIDEOS = ["mp4", "gif"];

/** `shown()` gives the panels that are shown; `fault(text)` says what went wrong. */
export function setUpSaving(shown, fault) {
  $("form").addEventListener("change", () => refreshSaving(shown()));
  $("which").addEventListener("change", () => refreshSaving(shown()));
  $("saving").addEventListener("submit", async (event) => {
    event.preventDefault();
    fault("");
    const panels = shown();
    const [first, second] = $("which").value === "b" ? [panels[1]] : panels;
    const form = $("form").value;
    const options = VIDEOS.includes(form) ? { scale: $("scale").value, poke: $("draw").checked } : {};
    if ($("which").value === "both") options.beside = second.answer.key;
    try {
      hand(await api.clip(first.answer.key, form, options));
    } catch (error) {
      fault(error.message);
    }
  });
}

/** Offers what can be saved now. */
export function refreshSaving(panels) {
  const two = panels.length === 2;
  const names = two ? [["both", "both, side by side"], ["a", "the left answer"], ["b", "the right answer"]] : [["a", "the answer"]];
  const chosen = $("which").value;
  if ($("which").length !== names.length) {
    $("which").replaceChildren(...names.map(([value, label]) => new Option(label, value, false, value === chosen)));
    $("which").selectedIndex = two ? 0 : Math.max($("which").selectedIndex, 0);
  }
  const video = VIDEOS.includes($("form").value);
  const wanted = { both: [0, 1], a: [0], b: [1] }[$("which").value];
  $("scale").disabled = $("draw").disabled = !video;
  const ready = wanted.every((number) => panels[number].answer);
  $("save").disabled = !ready || (wanted.length === 2 && !video);
  $("save").title = wanted.length === 2 && !video ? "Exact frames are saved one answer at a time." : "";
}

/** Hands a file to the browser's downloads. */
function hand({ name, blob }) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
