// Plays a video that the browser cannot play: the service converts the window of it that is watched. Each window is a file as long
// as the video, with a still before and after its pictures, so that the time of the player is the time of the video.

import { proxyOf, Refusal, waitFor } from "./service.js";

// Seconds before the end of a window at which the next one is asked for, and at which it is played.
const AHEAD = 6;
const SWITCH = 0.1;

export class Converted {
  constructor(player, video, length, { onWait, onReady, onFail }) {
    Object.assign(this, { player, video, length, onWait, onReady, onFail });
    this.number = null;
    this.ahead = null;
    this.isWaiting = false;
    this.isStopped = false;
    this.plays = false;
    player.addEventListener("seeking", () => this.isStopped || this.show(player.currentTime));
    player.addEventListener("timeupdate", () => this.goOn());
  }

  stop() {
    this.isStopped = true;
    this.asked?.abort();
    this.leaveAhead();
  }

  // Where the player is, or will be when its window is there.
  get time() {
    return this.isWaiting ? this.wanted : this.player.currentTime;
  }

  async show(seconds) {
    const { player } = this;
    if (player.duration > 0) seconds = Math.min(seconds, Math.max(0, player.duration - 0.05));
    const number = Math.floor(seconds / this.length + 1e-9);
    this.wanted = seconds;
    if (this.isWaiting && number === this.awaited) return;
    this.asked?.abort();
    if (number !== this.ahead && number !== this.number) this.leaveAhead();
    if (number === this.number) return this.place();
    this.asked = new AbortController();
    const { signal } = this.asked;
    this.plays ||= !player.paused;
    this.awaited = number;
    this.isWaiting = true;
    player.pause();
    this.onWait();
    try {
      await waitFor(proxyOf(this.video, number), signal);
    } catch (problem) {
      if (signal.aborted) return;
      if (!(problem instanceof Refusal)) throw problem;
      this.isWaiting = false;
      return this.onFail(problem.message);
    }
    if (signal.aborted) return;
    this.number = number;
    // A new source stops the player; what was pressed meanwhile counts.
    this.plays ||= !player.paused;
    player.addEventListener("loadedmetadata", () => signal.aborted || this.place(), { once: true });
    player.src = proxyOf(this.video, number);
  }

  // The window is there: its player goes to the time that is wanted.
  place() {
    const { player } = this;
    if (this.isWaiting) {
      this.isWaiting = false;
      this.onReady();
    }
    if (Math.abs(player.currentTime - this.wanted) > 0.001) player.currentTime = this.wanted;
    if (this.plays) player.play().catch(() => {});
    this.plays = false;
  }

  goOn() {
    const { player } = this;
    if (this.isWaiting || this.isStopped || this.number === null) return;
    const end = (this.number + 1) * this.length;
    if (end >= player.duration - 0.1) return;
    if (player.currentTime >= end - SWITCH) this.show(Math.max(end, player.currentTime));
    else if (!player.paused && player.currentTime >= end - AHEAD && this.ahead !== this.number + 1) {
      this.ahead = this.number + 1;
      this.prefetched = new AbortController();
      waitFor(proxyOf(this.video, this.ahead), this.prefetched.signal).catch(() => {});
    }
  }

  // Who is elsewhere does not wait for the next window.
  leaveAhead() {
    this.prefetched?.abort();
    this.ahead = null;
  }
}
