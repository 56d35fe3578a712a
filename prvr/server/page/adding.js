// Videos are added: by a drop on the page or from a list of files, with the token, one after another.

import { at, make } from "./elements.js";
import { uploadOf } from "./service.js";
import { percent, sizeOf } from "./words.js";

// What a status means for somebody who adds a file; others bring words of the service.
const SAID = {
  0: "The connection broke off. Nothing was kept; try again.",
  401: "The token is not the one that this service was started with.",
  403: "This service was started without a token, so nobody can add videos.",
  408: "The upload stopped on its way. Nothing was kept; try again.",
  409: "There is a file of this name already. Rename yours, or choose another folder.",
  503: "The service is taking other files. Try again in a moment.",
  507: "There is no room for it on the disk of the service.",
};
const DONE = ["indexing", "there", "refused"];

export class Adding {
  // about: of the service. onAdded: what happens when a file has arrived.
  constructor({ about, onAdded }) {
    this.about = about;
    this.onAdded = onAdded;
    this.files = [];
    this.busy = null;
    at("add-videos").hidden = !about.writable;
    at("add-videos").addEventListener("click", () => this.open());
    at("adding-close").addEventListener("click", () => {
      at("adding").hidden = true;
      at("add-videos").focus();
    });
    at("files").setAttribute("accept", ["video/*", ...(about.suffixes ?? [])].join(","));
    at("files").addEventListener("change", () => {
      this.take([...at("files").files]);
      at("files").value = "";
    });
    at("adding-form").addEventListener("submit", (event) => {
      event.preventDefault();
      for (const file of this.files) if (file.state === "waiting" || file.status === 401) this.change(file, { state: "waiting", said: "", status: 200 });
      this.next();
    });
    addEventListener("beforeunload", (event) => this.busy && event.preventDefault());
  }

  open() {
    at("adding").hidden = false;
    at("adding").scrollIntoView({ block: "nearest" });
    (at("token").value ? at("files") : at("token")).focus();
  }

  // Files that were dropped or chosen; each gets a line, whatever becomes of it.
  take(files) {
    if (files.length === 0) return;
    at("adding").hidden = false;
    if (!this.about.writable) return (at("adding-note").textContent = `${SAID[403]} Put the files into the folder of the videos on that machine; prvr index finds them.`);
    const folder = at("into").value.trim().replace(/^\/+|\/+$/g, "");
    for (const data of files) {
      const file = { data, name: folder ? `${folder}/${data.name}` : data.name, state: "waiting", said: "", share: 0 };
      const problem = this.problemOf(data);
      if (problem) Object.assign(file, { state: "refused", said: problem });
      file.row = make("li", { class: "arrival" });
      this.files.push(file);
      at("arrivals").append(file.row);
      this.draw(file);
    }
    this.next();
    if (!at("token").value) this.open();
  }

  problemOf({ name, size }) {
    const suffix = name.slice(name.lastIndexOf(".")).toLowerCase();
    if (!this.about.suffixes.includes(suffix)) return "Its name does not end like that of a video, such as .mp4 or .mov.";
    if (size === 0) return "The file is empty.";
    return size > this.about.upload_limit ? `It has ${sizeOf(size)}; this service takes at most ${sizeOf(this.about.upload_limit)}.` : "";
  }

  next() {
    const token = at("token").value;
    const file = this.files.find((one) => one.state === "waiting");
    at("adding-note").textContent = file && !token ? "Enter the token; then the files are sent." : "";
    if (!this.busy && file && token) this.send(file, token);
  }

  send(file, token) {
    const request = new XMLHttpRequest();
    this.busy = request;
    this.change(file, { state: "sending", share: 0, stop: () => request.abort() });
    const over = (change) => {
      this.busy = null;
      this.change(file, change);
      if (file.state === "refused") at("spoken").textContent = `${file.name}: ${file.said}`;
      if (file.status === 401) return at("token").focus();
      this.next();
    };
    request.upload.addEventListener("progress", ({ loaded, total }) => this.change(file, { share: total ? loaded / total : 0 }));
    request.addEventListener("load", () => {
      const { status } = request;
      if (status !== 202) return over({ state: "refused", status, said: SAID[status] ?? errorIn(request) });
      over({ state: "indexing" });
      this.onAdded();
    });
    request.addEventListener("error", () => over({ state: "refused", status: 0, said: SAID[0] }));
    request.addEventListener("abort", () => over({ state: "refused", status: 0, said: "Stopped. Nothing was kept." }));
    request.open("PUT", uploadOf(file.name));
    // A header has no other characters; with others the token is wrong in any case.
    request.setRequestHeader("Authorization", `Bearer ${token.replace(/[^\x21-\x7e]/g, "?")}`);
    request.send(file.data);
  }

  // What the update of the index made of the files that had arrived.
  settle({ state, error, problems }) {
    for (const file of this.files.filter((one) => one.state === "indexing")) {
      const problem = problems.find((line) => line.startsWith(`${file.name}: `))?.slice(file.name.length + 2);
      if (state === "failed") this.change(file, { said: error });
      else this.change(file, problem ? { state: "refused", said: problem } : { state: "there" });
    }
  }

  change(file, changes) {
    const before = file.state;
    Object.assign(file, changes);
    if (file.state === "sending" && before === "sending") [file.bar.value, file.note.textContent] = [file.share, percent(file.share)];
    else this.draw(file);
  }

  draw(file) {
    const { name, data, state, said, status } = file;
    const words = { waiting: "waits", sending: percent(file.share), indexing: "arrived; it is being indexed", there: "can be searched" };
    file.bar = make("progress", { max: 1, value: file.share, "aria-label": `Upload of ${name}`, hidden: state !== "sending" });
    file.note = make("span", { class: state === "refused" ? "refusal" : "faint" }, said || words[state] || "");
    const button = (text, label, onclick) => make("button", { type: "button", class: "quiet", "aria-label": `${label} ${name}`, onclick }, text);
    const again = () => (this.change(file, { state: "waiting", said: "", status: 200 }), this.next());
    const drop = () => ((this.files = this.files.filter((one) => one !== file)), file.row.remove());
    file.row.replaceChildren(
      make("span", { class: "arriving-name", title: name }, name),
      make("span", { class: "faint" }, sizeOf(data.size)),
      file.bar,
      file.note,
      ...(state === "refused" && status !== undefined ? [button("Try again", "Try again to add", again)] : []),
      ...(state === "sending" ? [button("Stop", "Stop adding", file.stop)] : []),
      ...(state === "waiting" || DONE.includes(state) ? [button("✕", "Take off the list:", drop)] : []),
    );
  }
}

function errorIn({ status, responseText }) {
  try {
    return JSON.parse(responseText).error;
  } catch {
    return `The service answered with status ${status}.`;
  }
}
