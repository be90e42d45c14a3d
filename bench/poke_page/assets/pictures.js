// The pictures to choose from, and uploads.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);

export class Pictures {
  /** `chosen(scene)` is called when a picture is chosen; `fault(text)` says what went wrong, "" when nothing did. */
  constructor(page, chosen, fault) {
    Object.assign(this, { page, chosen, fault });
    $("limit").textContent = Math.floor(page.upload_bytes / 2 ** 20);
    for (const scene of page.scenes) this.add(scene);
    $("file").addEventListener("change", () => {
      const [file] = $("file").files;
      $("file").value = ""; // so that the same file can be chosen again
      if (file) this.upload(file, false);
    });
    $("crop-yes").addEventListener("click", () => this.upload(this.pending, true));
    $("crop-no").addEventListener("click", () => this.dismiss());
  }

  /** Adds a picture; `name` in place of its label. */
  add(scene, name = scene.label) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "scene", value: scene.key });
    const picture = Object.assign(new Image(), { src: api.pictureAddress(scene.key), alt: "" });
    const text = Object.assign(document.createElement("span"), { textContent: name });
    const origin = Object.assign(document.createElement("small"), { textContent: scene.origin });
    radio.addEventListener("change", () => this.chosen(scene));
    label.append(radio, picture, text, origin);
    $("scenes").append(label);
    return radio;
  }

  choose(radio) {
    radio.checked = true;
    radio.dispatchEvent(new Event("change"));
    radio.scrollIntoView({ block: "nearest", inline: "center" });
  }

  dismiss() {
    this.pending = null;
    $("crop").hidden = true;
  }

  async upload(file, crop) {
    this.dismiss();
    this.fault("");
    if (file.size > this.page.upload_bytes) {
      this.fault(`${file.name} has ${(file.size / 2 ** 20).toFixed(1)} MiB; choose a smaller file.`);
      return;
    }
    try {
      this.choose(this.add(await api.upload(file, crop), file.name));
    } catch (error) {
      if (error.crop === undefined) this.fault(error.message);
      else this.offer(file, error);
    }
  }

  /** Asks whether the middle square may be taken. */
  offer(file, { message, crop }) {
    this.pending = file;
    $("crop-text").textContent = message;
    $("crop-yes").textContent = `Take the middle ${crop} × ${crop} px`;
    $("crop").hidden = false;
    $("crop-yes").focus();
  }
}
