// The routes of the service, from its own description.

import { at, make } from "./elements.js";

const { paths } = await (await fetch("openapi.json")).json();
for (const [path, operations] of Object.entries(paths)) for (const [method, operation] of Object.entries(operations)) at("routes").append(route(method, path, operation));

function route(method, path, operation) {
  const rows = (operation.parameters ?? []).map((parameter) =>
    make("div", {}, make("dt", {}, make("code", {}, parameter.name), parameter.required ? " required" : ""), make("dd", {}, parameter.description ?? "")),
  );
  const locked = operation.security ? make("span", { class: "faint" }, "with the token: Authorization: Bearer TOKEN") : null;
  const heading = make("h2", {}, make("b", { class: `method ${method}` }, method.toUpperCase()), make("code", {}, path));
  return make("section", { class: "route" }, heading, make("p", {}, (operation.description ?? "").replaceAll("`", "")), locked, rows.length ? make("dl", {}, ...rows) : null);
}
