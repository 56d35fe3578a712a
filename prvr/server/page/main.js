// The page: reads its address, asks the service, and shows what comes back.

import { divider, ghosts, hitCard, videoCard } from "./cards.js";
import { scaleOf } from "./curve.js";
import { at, make } from "./elements.js";
import { address, conditionsOf, here, placeOf, questionOf } from "./place.js";
import { ask, Refusal } from "./service.js";
import { countOf, percent, notesOf, titleOf } from "./words.js";
import { Watch } from "./watch.js";

const HITS = 24;
const PAGE = 48;
// Before this many milliseconds an answer is there, and a sign of waiting would only flicker.
const PATIENCE = 150;

const list = at("results");
const about = await ask("api/about", {}).catch(() => ({ videos: 0, similar: false, method: "", frames: "" }));
const watch = new Watch({ about, onClose: () => go(questionOf(here())) });
// What was found, by video: its title and how likely it is.
const known = new Map();
let asking = new AbortController();
// The question whose answer the list shows, and the video that the player was opened on: its card is come back to.
let answered = null;
let opened = null;

function go(place) {
  if (address(place) === address(here())) return render();
  history.replaceState({ ...history.state, scroll: scrollY }, "");
  history.pushState({}, "", address(place));
  render();
  if (place.video) scrollTo(0, 0);
}

async function render() {
  const place = here();
  const question = questionOf(place);
  const asked = Boolean(question.q || question.like);
  document.body.dataset.view = place.video ? "watch" : asked || question.where ? "results" : "home";
  name(place);
  at("sentence").value = question.q;
  at("where").value = question.where;
  if (question.where) openConditions(true);
  if (place.video) watch.show(place, toldOf(place));
  else watch.close();
  mark(place.video);
  await fill(question, asked, place);
  // What is shown by now; a link may lead to a video before anything is known of it.
  name(here());
  if (here().video) watch.learn(toldOf(here()));
  if (!place.video && opened) comeBack();
  opened = place.video || null;
}

function name(place) {
  const title = place.video ? toldOf(place).title : "";
  document.title = [title, place.q || place.where, "prvr"].filter(Boolean).join(" · ");
}

// How likely a video is belongs to the question that was answered.
function toldOf(place) {
  const video = known.get(place.video) ?? {};
  const { title = titleOf(place.video), probability = null } = video;
  return { title, notes: notesOf(video), probability: answered === JSON.stringify(questionOf(place)) ? probability : null };
}

async function fill(question, asked, place) {
  if (answered === JSON.stringify(question)) return;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  known.clear();
  answered = JSON.stringify(question);
  const waiting = setTimeout(() => show({ title: "", items: ghosts(8) }), PATIENCE);
  try {
    if (asked) await showHits(question, place, signal);
    else await showVideos(question, place, signal);
    mark(here().video);
    if (history.state?.scroll && !here().video) scrollTo(0, history.state.scroll);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    answered = null;
    const again = make("button", { type: "button", onclick: () => render() }, "Try again");
    show({ title: "That did not work", items: [], notice: [make("p", {}, problem.message), problem instanceof Refusal ? again : null] });
    at("spoken").textContent = problem.message;
    if (!(problem instanceof Refusal)) throw problem;
  } finally {
    clearTimeout(waiting);
  }
}

async function showHits(question, place, signal) {
  const where = conditionsOf(question.where);
  const { hits, seconds } = question.q
    ? await ask("api/search", { q: question.q, k: HITS, where }, signal)
    : await ask("api/similar", { video: question.like, t: question.t, k: HITS, where }, signal);
  signal.throwIfAborted();
  for (const hit of hits) known.set(hit.video, hit);
  const title = question.q ? `“${question.q}”` : `Like a moment of ${titleOf(question.like)}`;
  const scale = scaleOf(hits);
  const items = hits.map((hit, n) => hitCard(hit, n + 1, place, scale));
  // Where the best hit is weak, the line above the list says so.
  const weakFrom = hits.findLastIndex((hit) => !hit.weak) + 1;
  if (weakFrom > 0 && weakFrom < hits.length) items.splice(weakFrom, 0, divider("Weak matches: sentences about anything else reach as much here."));
  const none = make("p", {}, where.length ? "No video meets these conditions." : question.like ? "The index holds no other video." : "The index holds no videos.");
  show({ title, took: `${countOf(hits.length, "video")} in ${Math.round(1000 * seconds)} ms`, items, notice: hits.length ? [] : [none] });
  const best = hits[0];
  const doubt = !best ? "" : best.probability !== null && best.probability < 0.5 ? `the best video is ${percent(best.probability)} likely to` : weakFrom === 0 ? "sentences about anything else reach as much here" : "";
  at("doubt").hidden = !doubt;
  at("doubt").textContent = doubt ? `Probably nothing here matches: ${doubt}. These are the nearest.` : "";
  if (here().video) return;
  at("spoken").textContent = best ? `${countOf(hits.length, "video")} found. The best is ${best.title}.` : "Nothing was found.";
}

async function showVideos(question, place, signal) {
  const where = conditionsOf(question.where);
  const { total, videos } = await ask("api/videos", { limit: PAGE, where }, signal);
  signal.throwIfAborted();
  const empty = where.length
    ? [make("p", {}, "No video meets these conditions.")]
    : [make("p", {}, "The index holds no videos yet."), make("p", {}, "Index a folder on this machine: prvr index VIDEOS INDEX")];
  const title = where.length ? `Videos with ${where.join(" and ")}` : "All videos";
  show({ title, took: where.length ? countOf(total, "video") : "", items: cardsOf(videos, place), notice: total ? [] : empty });
  if (where.length && !here().video) at("spoken").textContent = `${countOf(total, "video")} found.`;
  at("more").hidden = videos.length >= total;
  at("more").onclick = more({ limit: PAGE, where }, videos.length, place, signal);
}

// What a click on "Show more" does; another one while it is awaited would bring the same videos twice.
function more(asked, count, place, signal) {
  let waiting = false;
  return async () => {
    if (waiting) return;
    waiting = true;
    try {
      const next = await ask("api/videos", { ...asked, offset: count }, signal);
      notice([]);
      const items = cardsOf(next.videos, place);
      list.append(...items);
      items[0]?.querySelector("a").focus({ preventScroll: true });
      count += next.videos.length;
      at("more").hidden = count >= next.total || next.videos.length === 0;
    } catch (problem) {
      if (problem.name === "AbortError") return;
      notice([make("p", { role: "alert" }, problem.message)]);
      if (!(problem instanceof Refusal)) throw problem;
    } finally {
      waiting = false;
    }
  };
}

function cardsOf(videos, place) {
  for (const video of videos) known.set(video.video, { title: video.title });
  return videos.map((video) => videoCard(video, place));
}

function show({ title, took = "", items, notice: said = [] }) {
  at("results-title").textContent = title;
  at("took").textContent = took;
  list.replaceChildren(...items);
  notice(said.filter(Boolean));
  at("doubt").hidden = at("more").hidden = true;
}

function notice(said) {
  at("notice").replaceChildren(...said);
  at("notice").hidden = said.length === 0;
}

function mark(video) {
  for (const card of list.children) {
    const current = video !== "" && card.dataset.video === video;
    card.classList.toggle("current", current);
    if (current) card.firstChild.setAttribute("aria-current", "true");
    else card.firstChild?.removeAttribute?.("aria-current");
  }
}

function comeBack() {
  // Who has asked something else meanwhile stays in the box.
  if (at("ask").contains(document.activeElement)) return;
  const card = [...list.children].find((one) => one.dataset.video === opened);
  (card?.querySelector("a") ?? at("results-title")).focus({ preventScroll: true });
  if (history.state?.scroll) scrollTo(0, history.state.scroll);
  else card?.scrollIntoView({ block: "nearest" });
}

function openConditions(open) {
  at("conditions").hidden = !open;
  at("narrow").setAttribute("aria-expanded", String(open));
}

function step(by) {
  const cards = [...list.children].filter((card) => card.dataset.video);
  const place = cards.findIndex((card) => card.dataset.video === here().video);
  cards[place + by]?.querySelector("a").click();
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const [q, where] = [at("sentence").value.trim(), at("where").value.trim()];
  // Without a sentence the list of all videos is narrowed, or whole again.
  if (q || where || here().where) go(questionOf({ q, like: "", t: "", where }));
  else at("sentence").focus();
});
at("narrow").addEventListener("click", () => {
  openConditions(at("conditions").hidden);
  if (!at("conditions").hidden) at("where").focus();
});
at("keys").addEventListener("click", () => at("help").showModal());

// Links to a place of this page are followed here; with a key held down, or to anywhere else, the browser does it.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button) return;
  const target = new URL(link.href);
  if (target.origin !== location.origin || target.pathname !== location.pathname || target.hash || link.download) return;
  event.preventDefault();
  go(placeOf(target.search));
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || at("help").open) return;
  const inside = event.target.closest?.("input, textarea, button, a, video, [role=slider]");
  if (event.key === "Escape" && here().video) go(questionOf(here()));
  else if (event.target.closest?.("input, textarea")) return;
  else if (event.key === "/") at("sentence").select();
  else if (event.key === "?") at("help").showModal();
  else if (event.key === "n" && here().video) step(1);
  else if (event.key === "p" && here().video) step(-1);
  else if ((inside && (event.key === " " || event.key.startsWith("Arrow"))) || !watch.key(event.key)) return;
  event.preventDefault();
});

addEventListener("popstate", render);
history.scrollRestoration = "manual";
at("about").textContent = about.method ? `${countOf(about.videos, "video")} · ${about.method.replaceAll("_", "-")} on ${about.frames.replaceAll("_", "-")}` : "";
await render();
document.body.classList.add("ready");
