"use strict";
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);

  // An element with attributes and children. A child that is no element becomes a text node: no text is ever parsed as HTML.
  const el = (name, attributes = {}, ...children) => {
    const made = name === "svg" || name === "path" ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "onclick") made.addEventListener("click", value);
      else if (value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.flat().filter((child) => child !== undefined && child !== null));
    return made;
  };

  const number = (value) => value.toLocaleString("en");
  const plural = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;
  const bytes = (value) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
  };
  const iso = (millis) => new Date(millis).toISOString();
  const time = (millis) => (millis === null ? "\u2013" : iso(millis).slice(0, 19).replace("T", " "));
  const duration = (millis) => {
    if (millis < 1000) return `${number(Math.round(millis))} ms`;
    if (millis < 10000) return `${number(Math.round(millis / 100) / 10)} s`;
    const seconds = Math.round(millis / 1000);
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const first = units.findIndex(([, length]) => seconds >= length);
    const [[unit, length], [smaller, step] = []] = units.slice(first);
    const rest = smaller ? Math.floor((seconds % length) / step) : 0;
    return `${number(Math.floor(seconds / length))} ${unit}${rest > 0 ? ` ${rest} ${smaller}` : ""}`;
  };
  const ratio = (part, whole) => {
    const share = whole === 0 ? 0 : (100 * part) / whole;
    return share > 0 && share < 0.1 ? "< 0.1%" : `${share.toFixed(1)}%`;
  };

  const table = (title, columns, rows) => el("div", { class: "scroll" }, el("table", {},
    el("caption", {}, title),
    el("thead", {}, el("tr", {}, columns.map(([heading, kind]) => el("th", { scope: "col", class: kind }, heading)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((cell, place) => {
      const heads = place === 0;
      return el(heads ? "th" : "td", { class: columns[place][1], scope: heads ? "row" : undefined }, cell);
    }))))));

  // The spans that a chart draws: a short time is in the middle of some empty ones, so that no bar is wide.
  const window_of = (line) => {
    const shown = Math.max(line.spans, 36);
    const before = Math.floor((shown - line.spans) / 2);
    return { shown, before, start: line.start - before * line.length };
  };

  // The bars of a row as one path, from its counts at `which`.
  const bars = (line, row, which, most, height) => {
    const { shown, before } = window_of(line);
    const width = 1000 / shown;
    const gap = shown <= 120 ? width * 0.15 : 0;
    let path = "";
    for (const counts of row.at) {
      if (counts[which] > 0) {
        const bar = Math.max((height * counts[which]) / most, 1);
        const left = (counts[0] + before) * width;
        path += `M${left.toFixed(2)} ${height}V${(height - bar).toFixed(2)}H${(left + width - gap).toFixed(2)}V${height}Z`;
      }
    }
    return path;
  };
  const most_of = (row) => row.at.reduce((most, counts) => Math.max(most, counts[1]), 1);
  const drawing = (line, row, most, height, title, more = []) => el("svg",
    { viewBox: `0 0 1000 ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": title },
    more, el("path", { class: "all", d: bars(line, row, 1, most, height) }),
    el("path", { class: "marked", d: bars(line, row, 2, most, height) }));

  const strip = (line, row, what) => {
    const most = most_of(row);
    return drawing(line, row, most, 24, `${what} over time, at most ${number(most)} in ${duration(line.length)}`);
  };

  const filter = (values) => {
    at("controls").reset();
    for (const [id, value] of Object.entries(values)) {
      at(id).value = value;
      // A name that no entry has is searched for as a word, and not found.
      if (at(id).value !== value) { at(id).selectedIndex = 0; at("words").value = value; }
    }
    search.span = undefined;
    search();
    at("search").scrollIntoView();
  };
  const link = (text, values) => el("button", { type: "button", class: "link", onclick: () => filter(values) }, text);

  // A table with a row for each name of a timeline.
  const by_name = (line, titles, select) => {
    const rows = line.rows.map((row) => [row, select ? link(row.name, select(row.name)) : row.name]);
    if (line.nameless) rows.push([line.nameless, el("span", { class: "muted" }, titles.nameless)]);
    if (line.others) rows.push([line.others, el("span", { class: "muted" }, titles.others)]);
    if (rows.length === 0) return [el("p", { class: "muted" }, titles.none)];
    const columns = [[titles.name, "name"], [titles.count, "n"], [titles.marked, "n"], ["First", "wide"], ["Last", "wide"], ["Over time", "strip"]];
    const cells = rows.map(([row, name]) => [name, number(row.count), el("span", { class: row.marked ? "bad" : "muted" }, number(row.marked)),
      time(row.first), time(row.last), strip(line, row, titles.count)]);
    const note = `Each row is drawn to its own scale; a bar is ${duration(line.length)}.`;
    return [el("p", { class: "muted" }, note), table(titles.title, columns, cells)];
  };

  const { scope, counts, letters, checkpoints, space } = report;
  const total = Object.values(space).reduce((sum, part) => sum + part, 0);
  const lasted = counts.first === null ? 0 : counts.last - counts.first;

  const title = scope.job ?? scope.repo;
  document.title = `${title} \u2013 storage report`;
  at("title").textContent = title;
  const of = scope.job ? `job of the repository ${scope.repo}` : plural(report.jobs, "job");
  at("scope").textContent = `${of} \u00b7 ${scope.backend} backend \u00b7 made ${time(scope.made)} by prodigy-storage ${scope.version} \u00b7 all times are UTC`;

  const figure = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, ` ${more}`) : null));
  at("figures").append(
    figure("Events", number(counts.events)),
    figure("Failures", number(report.events.all.marked), counts.events ? ratio(report.events.all.marked, counts.events) : ""),
    figure("Lasted", counts.first === null ? "\u2013" : duration(lasted)),
    figure("Rate", lasted > 0 ? number(Number(((1000 * counts.events) / lasted).toPrecision(3))) : "\u2013", lasted > 0 ? "per second" : ""),
    figure("Dead letters", number(letters.items)),
    figure("Checkpoints", number(checkpoints.count)),
    figure("Stored", bytes(total)),
  );

  // The chart of all events.
  const throughput = () => {
    const line = report.events;
    if (line.all.at.length === 0) return [el("p", { class: "muted" }, counts.events ? "No event states a time." : "No events.")];
    const { shown, before, start } = window_of(line);
    const most = most_of(line.all);
    const scale = 10 ** Math.floor(Math.log10(most));
    const top = [1, 2, 4, 5, 10].map((step) => step * scale).find((step) => step >= most);
    const end = start + shown * line.length;
    const label = (millis) => {
      const text = iso(millis);
      const far = end - start;
      return far < 600000 ? text.slice(11, 19) : far < 2 * 86400000 ? text.slice(11, 16) : text.slice(0, 10);
    };
    const ticks = [0, 1, 2, 3, 4].map((place) => el("span", {}, label(start + (place / 4) * (end - start))));
    ticks.forEach((tick, place) => { tick.style.left = `${place * 25}%`; });
    const grid = el("path", { class: "line", d: "M0 0H1000M0 100H1000M0 200H1000" });
    const plot = el("div", { class: "plot" }, drawing(line, line.all, top, 200, `Events over time, at most ${number(most)} in ${duration(line.length)}`, [grid]));
    const half = top / 2;
    const marks = report.checkpoint_rows.filter((row) => row.time >= start && row.time <= end)
      .map((row) => `M${((1000 * (row.time - start)) / (end - start)).toFixed(2)} 0V10`).join("");
    const readout = el("p", { class: "readout" });
    const rest = "Point at a bar for its numbers; click to search in it.";
    readout.textContent = rest;
    const by_span = new Map(line.all.at.map((counts) => [counts[0], counts]));
    const span_at = (event) => {
      const box = plot.getBoundingClientRect();
      return Math.floor((shown * (event.clientX - box.left)) / box.width) - before;
    };
    const span_text = (span) => {
      const from = line.start + span * line.length;
      const [day, hour] = time(from + line.length).split(" ");
      return `${time(from)} to ${time(from).startsWith(day) ? hour : `${day} ${hour}`}`;
    };
    plot.addEventListener("pointermove", (event) => {
      const span = span_at(event);
      const [, all, marked] = by_span.get(span) ?? [span, 0, 0];
      readout.textContent = `${span_text(span)}: ${plural(all, "event")}, ${plural(marked, "failure")}`;
    });
    plot.addEventListener("pointerleave", () => { readout.textContent = rest; });
    plot.addEventListener("click", (event) => {
      const span = span_at(event);
      filter({});
      const from = line.start + span * line.length;
      search.span = { from, to: from + line.length, text: span_text(span) };
      search();
    });
    const figures = line.all.at.map(([span, all, marked]) => [time(line.start + span * line.length), number(all), number(marked)]);
    return [
      el("p", { class: "keys muted" }, el("span", {}, el("i", { class: "key" }), "events"), el("span", {}, el("i", { class: "key m" }), "of them failures")),
      el("div", { class: "chart" },
        el("div", { class: "y" }, el("span", {}, number(top)), el("span", {}, Number.isInteger(half) ? number(half) : ""), el("span", {}, "0")), plot,
        marks && el("div", { class: "marks-title" }, "saved"),
        marks && el("div", { class: "marks" }, el("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img", "aria-label": "The times at which checkpoints were saved" }, el("path", { class: "tick", d: marks }))),
        el("div"), el("div", { class: "x" }, ticks)),
      readout,
      el("p", { class: "muted" }, `Each bar is ${duration(line.length)}, with at most ${plural(most, "event")}.`,
        " A failure is an event whose kind, status, outcome, result or level says \u201cfail\u201d or \u201cerror\u201d, or that states an error."),
      el("details", { class: "tabular" }, el("summary", {}, "The bars as a table"), table("Events over time", [["From", ""], ["Events", "n"], ["Failures", "n"]], figures)),
    ];
  };
  at("throughput").append(...throughput().filter((child) => child !== ""));

  const unusual = [
    [counts.damaged, "damaged place", "of logs: `prodigy-storage doctor` names each"],
    [counts.too_large, "event", "over the limit of this reader"],
    [counts.unverified, "event", "without a checksum, of another program"],
  ].filter(([count]) => count > 0).map(([count, what, more]) => `${plural(count, what)} ${more}`);
  if (unusual.length > 0) at("throughput").append(el("p", { class: "bad" }, `${unusual.join("; ")}.`));

  if (!scope.job) {
    at("s-jobs").hidden = false;
    const rows = report.job_rows.map((row) => [link(row.job, { job: row.job }), row.state, number(row.events), number(row.letters), number(row.checkpoints), bytes(row.bytes), time(row.last)]);
    const columns = [["Job", "name"], ["State", ""], ["Events", "n"], ["Dead letters", "n wide"], ["Checkpoints", "n wide"], ["Size", "n"], ["Last write", "wide"]];
    at("jobs").append(table("Jobs, the last written first", columns, rows));
    if (report.jobs > rows.length) at("jobs").append(el("p", { class: "muted" }, `The ${number(rows.length)} that were written to last, of ${number(report.jobs)}.`));
  }

  const worktree_titles = { title: "Events by worktree", name: "Worktree", count: "Events", marked: "Failures", nameless: "no worktree stated", others: "other worktrees", none: "No events." };
  at("worktrees").append(...by_name(report.events, worktree_titles, (name) => ({ worktree: name })));
  const kind_titles = { title: "Events by kind", name: "Kind", count: "Events", marked: "Failures", nameless: "no kind stated", others: "other kinds", none: "No events." };
  at("kinds").append(...by_name(report.kinds, kind_titles, (name) => ({ kind: name })));

  const states = ["pending", "leased", "delayed", "parked", "unreadable"].filter((state) => letters[state] > 0).map((state) => `${number(letters[state])} ${state}`);
  if (states.length > 0) at("letters").append(el("p", {}, `${plural(letters.items, "dead letter")}: ${states.join(", ")}. Drawn at the time of the last attempt.`));
  const letter_titles = { title: "Dead letters by signature", name: "Signature", count: "Items", marked: "Parked", nameless: "no signature", others: "other signatures", none: "No dead letters." };
  at("letters").append(...by_name(report.by_signature, letter_titles, (name) => ({ sort: "dead_letter", words: name })));

  const saved = () => {
    const rows = report.checkpoint_rows;
    if (rows.length === 0) return [el("p", { class: "muted" }, "No checkpoints.")];
    const cells = rows.map((row) => [row.phase, time(row.time), bytes(row.bytes), ...(scope.job ? [] : [row.job]), el("span", { class: "code" }, row.name)]);
    const columns = [["Phase", ""], ["Saved", ""], ["Size", "n"], ...(scope.job ? [] : [["Job", "name"]]), ["Document", "wide name"]];
    const few = 12;
    const more = cells.length > few ? el("details", {}, el("summary", {}, `${number(cells.length - few)} older ones`), table("Older checkpoints", columns, cells.slice(few))) : null;
    const text = checkpoints.count > rows.length ? `The newest ${number(rows.length)} of ${number(checkpoints.count)}` : plural(checkpoints.count, "checkpoint");
    return [el("p", { class: "muted" }, `${text}, ${bytes(checkpoints.bytes)} in all.`), table("Checkpoints, the newest first", columns, cells.slice(0, few)), more];
  };
  at("checkpoints").append(...saved().filter((child) => child));

  const parts = [["Events", space.events], ["Checkpoints", space.checkpoints], ["Dead letters", space.dead_letters], ["Documents", space.documents]];
  const bar = el("div", { class: "parts", "aria-hidden": "true" });
  parts.forEach(([, size], place) => {
    if (size > 0) {
      const part = el("i", { class: `p${place + 1}` });
      part.style.flexGrow = size / total;
      bar.append(part);
    }
  });
  const share = parts.map(([name, size], place) => [[el("i", { class: `key p${place + 1}` }), name], bytes(size), ratio(size, total)]);
  at("space").append(bar, table("Space by kind of data", [["Data", ""], ["Size", "n"], ["Share", "n"]], share));

  // The search.
  const entries = report.entries.shown;
  const texts = entries.map((entry) => [entry.text, entry.kind, entry.worktree, entry.signature, entry.id, entry.job].join("\n").toLowerCase());
  const fill = (id) => {
    const names = [...new Set(entries.map((entry) => entry[id]).filter((name) => name !== undefined))].sort();
    at(id).append(...names.slice(0, 500).map((name) => el("option", { value: name }, name)));
    return names.length;
  };
  for (const id of ["kind", "worktree"]) at(id).parentElement.hidden = fill(id) === 0;
  at("l-job").hidden = fill("job") < 2;

  const PAGE = 50;
  let shown = PAGE;
  const long = (entry) => {
    const code = el("code", {}, entry.cut ? `${entry.text} \u2026 (cut)` : entry.text);
    if (entry.text.length <= 240) return code;
    return el("details", {}, el("summary", {}, el("code", {}, `${entry.text.slice(0, 200)}\u2026`)), code);
  };
  const row_of = (entry) => {
    const kind = entry.sort === "dead_letter" ? `dead letter: ${entry.kind ?? "no error stated"}` : entry.kind ?? "event";
    const where = [scope.job ? undefined : entry.job, entry.worktree].filter((name) => name !== undefined).join(" \u00b7 ");
    return [time(entry.time), el("span", { class: entry.sort === "event" ? "" : "bad", title: entry.id }, kind), where, long(entry)];
  };
  const search = () => {
    const words = at("words").value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    const is = (id, value) => at(id).value === "" || at(id).value === value;
    const span = search.span;
    const found = entries.filter((entry, place) => is("sort", entry.sort) && is("kind", entry.kind) && is("worktree", entry.worktree) && is("job", entry.job)
      && (!span || (entry.time >= span.from && entry.time < span.to))
      && words.every((word) => texts[place].includes(word)));
    const columns = [["Time", ""], ["Kind", "kind"], [scope.job ? "Worktree" : "Job, worktree", "kind where"], ["Text", ""]];
    at("found").textContent = `${number(found.length)} of ${number(entries.length)} found${span ? `, from ${span.text}` : ""}`;
    at("entries").replaceChildren(found.length > 0 ? table("What was found, the newest first", columns, found.slice(0, shown).map(row_of)) : "");
    at("more").hidden = found.length <= shown;
    at("more").textContent = `Show ${number(Math.min(PAGE, found.length - shown))} more`;
  };
  const again = () => { shown = PAGE; search(); };
  at("controls").addEventListener("input", again);
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("reset", () => { search.span = undefined; setTimeout(again); });
  at("more").addEventListener("click", () => { shown += PAGE; search(); });
  search();
  const missing = report.entries.offered - entries.length;
  at("kept").textContent = missing > 0
    ? `The page keeps ${number(entries.length)} of ${plural(report.entries.offered, "event")} and dead letters: the newest ones, and the newest failures. \u201cprodigy-storage events search\u201d searches all.`
    : "The page keeps every event and dead letter.";
})();
