"use strict";
// Shows /openapi.json. Every text is set as text and never as HTML.
(async () => {
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    Object.entries(attributes || {}).forEach(([key, value]) => element.setAttribute(key, value));
    element.append(...children);
    return element;
  };
  // Makes `code` and **bold** of a line.
  const words = (text) => text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 1) return make("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 3) return make("b", {}, part.slice(2, -2));
    return part;
  });
  // Makes paragraphs and lists of a description.
  const prose = (text) => (text || "").split("\n\n").map((block) => {
    const lines = block.split("\n");
    if (!lines.every((line) => line.startsWith("- "))) return make("p", {}, ...words(block));
    return make("ul", {}, ...lines.map((line) => make("li", {}, ...words(line.slice(2)))));
  });

  const answer = await fetch("/openapi.json");
  const api = await answer.json();
  const schemaOf = (schema) => {
    if (!schema || !schema.$ref) return schema || {};
    return { ...api.components.schemas[schema.$ref.split("/").pop()], ...(schema.description ? { description: schema.description } : {}) };
  };
  const typeOf = (given) => {
    const schema = schemaOf(given);
    if (schema.title) return schema.title;
    if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
    if (schema.const !== undefined) return JSON.stringify(schema.const);
    const types = [].concat(schema.type || "any");
    return types.map((type) => (type === "array" ? "list of " + typeOf(schema.items) : type)).join(" or ");
  };
  const rangeOf = (given) => {
    const schema = schemaOf(given);
    const says = [];
    if (schema.minimum !== undefined && schema.maximum !== undefined) says.push(schema.minimum + " to " + schema.maximum);
    if (schema.minLength !== undefined) says.push(schema.minLength + " to " + schema.maxLength + " characters");
    if (schema.minItems !== undefined) says.push("at least " + schema.minItems);
    if (schema.pattern) says.push(schema.pattern);
    if (schema.default !== undefined) says.push("default " + JSON.stringify(schema.default));
    return says.join(", ");
  };
  // Lists the members of an object, and below each the members of the objects in it.
  const rowsOf = (given, prefix, depth) => {
    const schema = schemaOf(given);
    const inner = schemaOf(schema.items);
    if (depth > 4) return [];
    if (schema.anyOf) return schema.anyOf.flatMap((one) => rowsOf(one, prefix, depth + 1));
    if (inner.properties) return rowsOf(inner, prefix + "[]", depth + 1);
    return Object.entries(schema.properties || {}).flatMap(([name, member]) => {
      const path = prefix ? prefix + "." + name : name;
      const required = (schema.required || []).includes(name);
      const shown = schemaOf(member);
      return [[path, required, typeOf(member), rangeOf(member), shown.description], ...rowsOf(member, path, depth + 1)];
    });
  };
  const table = (rows) => make("table", {},
    make("tr", {}, ...["Name", "Type", "Meaning"].map((title) => make("th", {}, title))),
    ...rows.map(([name, required, type, range, about]) => make("tr", {},
      make("td", {}, make("code", {}, name), required ? " *" : ""),
      make("td", {}, type, ...(range ? [make("div", { class: "note" }, range)] : [])),
      make("td", {}, ...words(about || "")))));

  const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const command = (method, path, operation) => {
    const filled = (operation.parameters || []).filter((one) => one.in === "path")
      .reduce((url, one) => url.replace("{" + one.name + "}", one.example), path);
    const parts = ["curl -s" + (method === "GET" ? "" : " -X " + method) + " " + location.origin + filled];
    if (operation.security.length) parts.push('-H "Authorization: Bearer $INFERA_API_KEY"');
    const body = operation.requestBody && operation.requestBody.content["application/json"].example;
    if (body) parts.push("-H 'Content-Type: application/json'", "-d " + quoted(JSON.stringify(body)));
    return parts.join(" \\\n  ");
  };
  const show = (method, path, operation) => {
    const parts = [...prose(operation.description)];
    const body = operation.requestBody;
    if (operation.parameters.length) {
      parts.push(make("h3", {}, "Parameters"), table(operation.parameters.map((one) =>
        [one.name + " (" + one.in + ")", one.required, typeOf(one.schema), rangeOf(one.schema), one.description])));
    }
    if (body) {
      parts.push(make("h3", {}, "Body"), make("p", {}, body.description), table(rowsOf(body.content["application/json"].schema, "", 0)));
    }
    parts.push(make("h3", {}, "Example"), make("pre", {}, make("code", {}, command(method, path, operation))));
    parts.push(make("h3", {}, "Replies"));
    Object.entries(operation.responses).forEach(([status, reply]) => {
      const json = reply.content["application/json"];
      const rows = json && status.startsWith("2") ? rowsOf(json.schema, "", 0) : [];
      parts.push(make("details", {}, make("summary", {}, make("b", {}, status), make("span", {}, status.startsWith("2") ? reply.description : "")),
        ...(status.startsWith("2") ? [] : prose(reply.description)), ...(rows.length ? [table(rows)] : [])));
    });
    return make("details", { id: operation.operationId },
      make("summary", {}, make("b", {}, method), make("code", {}, path), " ", make("span", {}, operation.summary)), ...parts);
  };

  document.getElementById("title").textContent = api.info.title + " " + api.info.version;
  document.getElementById("about").replaceChildren(make("p", {}, api.info.summary), ...prose(api.info.description),
    make("p", { class: "note" }, "A star marks what is always there or must be sent."));
  const all = Object.entries(api.paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })));
  api.tags.forEach((tag) => {
    const own = all.filter(({ operation }) => operation.tags.includes(tag.name));
    if (!own.length) return;
    document.getElementById("operations").append(make("h2", {}, tag.name), ...prose(tag.description),
      ...own.map(({ method, path, operation }) => show(method, path, operation)));
  });
  const wanted = document.getElementById(location.hash.slice(1));
  if (wanted && wanted.tagName === "DETAILS") { wanted.open = true; wanted.scrollIntoView(); }
})().catch((error) => { document.getElementById("about").textContent = "/openapi.json could not be shown: " + error; });
