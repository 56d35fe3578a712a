// The update of the index while it runs: how far it is, and what could not be read.

import { at, make } from "./elements.js";
import { ask, Refusal } from "./service.js";
import { clock, countOf } from "./words.js";

// Milliseconds between two looks: while an update runs, and otherwise.
const SOON = 1000;
const LATER = 20000;

export class Indexing {
  // onDone: what happens with the report of an update that was seen running.
  constructor({ onDone }) {
    this.onDone = onDone;
    this.running = false;
    at("indexing-close").addEventListener("click", () => (at("indexing").hidden = true));
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  // Looks at the update, now and as long as the page is open.
  async look() {
    clearTimeout(this.timer);
    const report = await ask("api/upkeep", {}).catch((problem) => {
      if (!(problem instanceof Refusal)) throw problem;
      return null;
    });
    clearTimeout(this.timer);
    if (report) this.tell(report);
    if (!document.hidden) this.timer = setTimeout(() => this.look(), this.running ? SOON : LATER);
  }

  tell(report) {
    const running = report.state === "running";
    if (running && !this.running) at("spoken").textContent = "The index is being updated.";
    if (running) this.show(textOf(report), report.progress);
    else if (this.running) this.end(report);
    else if (report.state === "failed" && this.failure !== report.error) this.showEnd(report);
    this.running = running;
  }

  show(text, progress) {
    at("indexing").hidden = false;
    at("indexing-close").hidden = true;
    at("indexing-text").textContent = text;
    at("indexing-problems").replaceChildren();
    const bar = at("indexing-bar");
    bar.hidden = false;
    // A bar without a value moves to and fro.
    if (progress && progress.seconds_total > 0) [bar.max, bar.value] = [progress.seconds_total, progress.seconds];
    else bar.removeAttribute("value");
  }

  end(report) {
    this.showEnd(report);
    at("spoken").textContent = at("indexing-text").textContent;
    this.onDone(report);
  }

  showEnd(report) {
    this.failure = report.error;
    const { added, dropped, problems, error } = report;
    at("indexing-bar").hidden = true;
    at("indexing-close").hidden = false;
    const changes = [added ? `${countOf(added, "video")} added` : "", dropped ? `${countOf(dropped, "video")} taken out` : ""].filter(Boolean).join(", ");
    at("indexing-text").textContent = error ? `The update of the index failed: ${error}` : `The index is up to date${changes ? `: ${changes}` : ""}.`;
    const lines = problems.map((problem) => make("li", {}, problem));
    const box = make("details", {}, make("summary", {}, `${countOf(problems.length, "file")} could not be read, or not in full`), make("ul", {}, ...lines));
    at("indexing-problems").replaceChildren(...(lines.length && !error ? [box] : []));
    at("indexing").hidden = false;
  }
}

function textOf({ progress, waiting }) {
  const more = waiting ? " Another update follows." : "";
  if (!progress) return `Looking for new videos.${more}`;
  const { files, files_total, seconds, seconds_total, title } = progress;
  return `Indexing ${title}: video ${files} of ${files_total}, ${clock(seconds)} of ${clock(seconds_total)} watched.${more}`;
}
