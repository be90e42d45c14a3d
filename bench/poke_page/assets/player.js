// The clock: one frame number for all panels, so that two videos run in step.

const HOLD = 5; // frames for which the last one stays before the video begins again

export class Player {
  /** `show(frame)` is called whenever the frame changes; `state(playing)` when it starts or stops. */
  constructor(rate, show, state) {
    Object.assign(this, { rate, show, state, speed: 1, frames: 1, frame: 0, playing: false });
  }

  /** A new video of `frames` frames, at its first one, stopped. */
  load(frames) {
    this.pause();
    this.frames = frames;
    this.seek(0);
  }

  seek(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.frames - 1);
    this.begin();
    this.show(this.frame);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.begin();
  }

  play() {
    if (this.playing || this.frames < 2) return;
    if (this.frame === this.frames - 1) this.seek(0);
    this.playing = true;
    this.state(true);
    this.begin();
    this.request = requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    if (!this.playing) return;
    cancelAnimationFrame(this.request);
    this.playing = false;
    this.state(false);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Counts time from now and from the frame that is shown. */
  begin() {
    this.since = { time: performance.now(), frame: this.frame };
  }

  tick(now) {
    const passed = Math.max(now - this.since.time, 0) / 1000;
    const count = this.since.frame + Math.floor(passed * this.rate * this.speed);
    const frame = Math.min(count % (this.frames + HOLD), this.frames - 1);
    if (frame !== this.frame) {
      this.frame = frame;
      this.show(frame);
    }
    this.request = requestAnimationFrame((next) => this.tick(next));
  }
}
