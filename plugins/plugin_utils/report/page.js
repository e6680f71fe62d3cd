// The page of kvm.passthrough.assess. Everything that comes from a host is data: it enters the document as text nodes
// and attributes only (h below), and the Content-Security-Policy refuses any other way.
"use strict";
(() => {
  const VERDICTS = ["ready", "assignable", "in_use", "blocked"];
  const HOST_VERDICTS = ["capable", "blocked", "failed"];
  const SEVERITIES = ["blocker", "warning", "information"];
  const WORDS = { in_use: "in use", failed: "not judged" };
  const MEANING = {
    ready: "with a vfio driver, nothing stands in the way",
    assignable: "nothing stands in the way, still with its own driver or none",
    in_use: "could go if the host or a running guest did not need it",
    blocked: "cannot go as things are",
  };
  const BATCH = 60;
  // Not a check of the collection: a guest of the inventory wants what the host does not have.
  const WISH = "kvm_guest_pci_devices";
  const word = (name) => WORDS[name] || name;
  const worst = (a, b) => (b === undefined || (a !== undefined && SEVERITIES.indexOf(a) < SEVERITIES.indexOf(b)) ? a : b);
  const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // ---- Reading the data: a line for each host, and a last one with what they have in common.

  const zip = (fields, values) => {
    const object = {};
    for (let i = 0; i < fields.length; i++) object[fields[i]] = values[i];
    return object;
  };
  const { hosts, report } = read(document.getElementById("data").textContent.trim().split("\n"));
  const bySlug = new Map(hosts.map((host) => [host.slug, host]));

  function read(lines) {
    const shared = JSON.parse(lines.pop());
    const { fields, texts } = shared;
    const text = (number) => (number === null ? null : texts[number]);
    shared.checks[WISH] = "A guest of the inventory asks for devices that cannot be told, or are not there";
    const kinds = shared.kinds.map((values) => zip(fields.kind, values));
    const findings = shared.findings.map((numbers) => zip(fields.finding, numbers.map(text)));
    const numbered = (numbers) => numbers.map((number) => findings[number]);
    const all = lines.map((line) => {
      const host = JSON.parse(line);
      host.slug = encodeURIComponent(host.name.replace(/\p{Surrogate}/gu, "\ufffd"));
      host.findings = numbered(host.findings);
      host.devices = (host.devices || []).map((values) => {
        const device = zip(fields.device, values);
        device.host = host;
        device.kind = kinds[device.kind];
        device.driver = text(device.driver);
        device.driver_override = text(device.driver_override);
        device.findings = numbered(device.findings);
        return device;
      });
      host.movable = host.devices.filter((device) => !device.kind.bridge);
      const faults = host.wants.filter((want) => want.fault !== null);
      host.concerns = [...host.findings, ...faults.map((want) => ({ check: WISH, severity: "blocker", message: want.fault }))];
      host.lines = (host.lines || []).map((values) => {
        const row = zip(fields.line, values);
        row.chip = text(row.chip);
        row.trigger = text(row.trigger);
        return row;
      });
      return host;
    });
    return { hosts: all, report: shared };
  }

  /** Who holds or wants a device: [{guest, text, kind}]. */
  function claims(device) {
    const { host } = device;
    if (!host.claims) {
      host.claims = new Map();
      const add = (address, claim) => host.claims.set(address, [...(host.claims.get(address) || []), claim]);
      for (const guest of host.guests) {
        const kind = guest.running ? "holds" : "next";
        for (const address of guest.devices) add(address, { guest: guest.name, kind });
      }
      for (const want of host.wants) {
        for (const address of want.devices) {
          const known = (host.claims.get(address) || []).some((claim) => claim.guest === want.guest);
          if (!known) add(address, { guest: want.guest, kind: "wants" });
        }
      }
    }
    return host.claims.get(device.address) || [];
  }

  const vendorless = (kind) => kind.device_name || kind.class_name || `Unknown device ${kind.id || ""}`;
  const title = (kind) => [kind.vendor_name, kind.device_name].filter(Boolean).join(" ") || vendorless(kind);

  // ---- What is shown: the words of the search and the filters.

  const filter = { text: "", verdict: "", severity: "", check: "", host: "" };
  const filtered = () => Object.values(filter).some(Boolean);
  const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (text, words) => words.every((searched) => text.includes(searched));

  function deviceText(device) {
    if (device.text === undefined) {
      const { kind, host, group } = device;
      const parts = [host.name, device.address, kind.id, kind.subsystem_id, kind.vendor_name, kind.device_name];
      parts.push(kind.subsystem_name, kind.class_name, kind.modules, kind.card, kind.card_about, device.driver, device.slot);
      if (group !== null) parts.push(`group ${group}`);
      if (device.line !== null) parts.push(`irq ${device.line}`);
      for (const claim of claims(device)) parts.push(claim.guest);
      for (const finding of device.findings) parts.push(finding.check, finding.message);
      device.text = parts.filter(Boolean).join("\n").toLowerCase();
    }
    return device.text;
  }

  function hostText(host) {
    if (host.text === undefined) {
      const parts = [host.name, host.error];
      if (host.kvm) parts.push(host.kvm.cpu.model, host.kvm.kernel.release);
      for (const guest of host.guests) parts.push(guest.name);
      for (const want of host.wants) parts.push(want.guest);
      for (const finding of host.concerns) parts.push(finding.check, finding.message);
      host.text = parts.filter(Boolean).join("\n").toLowerCase();
    }
    return host.text;
  }

  const finds = (findings) =>
    (!filter.severity && !filter.check) ||
    findings.some(
      (finding) =>
        (!filter.severity || finding.severity === filter.severity) && (!filter.check || finding.check === filter.check)
    );
  const deviceMatches = (device, words) =>
    (!filter.verdict || device.verdict === filter.verdict) &&
    finds(device.findings) &&
    (!words.length || has(deviceText(device), words));
  const hostMatches = (host, words) =>
    !filter.verdict && finds(host.concerns) && (!words.length || has(hostText(host), words));

  /** The hosts to show, each with those of its devices that match. */
  function visible() {
    const words = wordsOf(filter.text);
    const found = [];
    for (const host of hosts) {
      if (filter.host && host.slug !== filter.host) continue;
      const devices = host.movable.filter((device) => deviceMatches(device, words));
      if (devices.length || hostMatches(host, words)) found.push({ host, devices });
    }
    return found;
  }

  // ---- Making elements.

  // Characters that are not seen, or turn the direction of what follows, are shown by their number.
  const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/gu;
  const plain = (text) =>
    String(text).replace(UNSEEN, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

  function h(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value === true ? "" : plain(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child !== null && child !== undefined && child !== false && child !== "") {
        node.append(child instanceof Node ? child : plain(child));
      }
    }
    return node;
  }

  function icon(name, label) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", `icon i-${name}`);
    if (label) {
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", label);
    } else {
      svg.setAttribute("aria-hidden", "true");
    }
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#i-${name}`);
    svg.append(use);
    return svg;
  }

  /** A text that is folded after its first words where it is long. */
  function long(text) {
    if (text.length < 240) return h("span", null, text);
    const head = text.slice(0, text.lastIndexOf(" ", 160) + 1 || 160);
    const whole = h("details", { class: "long" }, h("summary", null, `${head}…`), h("p", null, text));
    unfold.push(() => { whole.open = true; });
    return whole;
  }

  const badge = (verdict) => h("span", { class: `badge ${verdict}`, title: MEANING[verdict] }, icon(verdict), word(verdict));
  const mono = (text) => h("code", null, text);
  const chip = (name, kind, symbol, hint) => h("span", { class: `chip ${kind || ""}`, title: hint }, symbol && icon(symbol), name);
  const hostLink = (host, properties) => h("a", { href: `#/host/${host.slug}`, ...properties }, host.name || "(no name)");
  const deviceLink = (host, address) => h("a", { href: `#/host/${host.slug}/${address}`, class: "mono" }, address);
  const section = (id, heading, ...children) =>
    h("section", { "aria-labelledby": id }, h("h3", { id }, heading), ...children);

  /** Puts items into a list as they are scrolled to, all of them before the page is printed. */
  function fill(list, items, make) {
    let done = 0;
    const more = h("button", { type: "button", class: "more", click: () => next(items.length) });
    const watch = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && next(BATCH), {
      rootMargin: "1200px",
    });
    const next = (count) => {
      const nodes = [];
      for (const end = Math.min(done + count, items.length); done < end; done++) nodes.push(make(items[done]));
      list.append(...nodes);
      more.hidden = done >= items.length;
      more.textContent = `Show all ${items.length.toLocaleString("en")}`;
      if (more.hidden) watch.disconnect();
    };
    next(BATCH);
    if (!more.hidden) watch.observe(more);
    unfold.push(() => next(items.length));
    return more;
  }
  let unfold = [];

  /** Numbers as one bar and a legend, whose entries are buttons where there is something to filter by. */
  function bar(names, numbers, label, choose) {
    const total = names.reduce((sum, name) => sum + (numbers[name] || 0), 0);
    const parts = names.map((name) => {
      const part = h("span", { class: `part ${name}` });
      part.style.flexGrow = numbers[name] || 0;
      part.hidden = !numbers[name];
      return part;
    });
    const entry = (name) => {
      const inside = [icon(name), h("b", null, (numbers[name] || 0).toLocaleString("en")), " ", word(name)];
      const pressed = choose && filter.verdict === name;
      return choose
        ? h("button", { type: "button", class: `entry ${name}`, title: MEANING[name], "aria-pressed": String(pressed),
            click: () => choose(name) }, inside)
        : h("span", { class: `entry ${name}` }, inside);
    };
    return h("div", { class: "sum" },
      h("p", { class: "big" }, h("b", null, total.toLocaleString("en")), " ", label),
      h("div", { class: "bar", "aria-hidden": "true" }, parts),
      h("div", { class: "legend" }, names.map(entry)));
  }

  const tally = (items, key) => {
    const numbers = {};
    for (const item of items) numbers[key(item)] = (numbers[key(item)] || 0) + 1;
    return numbers;
  };

  function finding(found) {
    const row = (name, ...content) => [h("dt", null, name), h("dd", null, ...content)];
    return h("li", { class: `finding ${found.severity}` },
      h("div", { class: "what" }, icon(found.severity, found.severity), h("p", null, found.message)),
      h("dl", null,
        found.remedy && row("Remedy", found.remedy,
          found.repaired_by && h("span", { class: "repaired" }, icon("repair"), `${found.repaired_by} does this`)),
        found.symptom && row("You would see", mono(found.symptom)),
        found.evidence && row("Read from", mono(found.evidence)),
        row("Check", mono(found.check), report.checks[found.check] && h("span", { class: "quiet" }, " ", report.checks[found.check]))));
  }

  const findings = (list) =>
    h("ul", { class: "findings" },
      [...list].sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity)).map(finding));

  // ---- The fleet: hosts × what stands in the way.

  const ORDERS = {
    inventory: ["Order of the inventory", null],
    name: ["Name", (a, b) => a.host.name.localeCompare(b.host.name, "en", { numeric: true })],
    faults: ["Most in the way first", (a, b) => burden(b) - burden(a)],
    free: ["Most that can go first", (a, b) => free(b) - free(a)],
  };
  const free = ({ devices }) => devices.filter(({ verdict }) => verdict === "ready" || verdict === "assignable").length;
  const burden = ({ host, devices }) =>
    (host.verdict === "failed" ? 1e6 : 0) + (host.verdict === "blocked" ? 1e5 : 0) +
    devices.filter(({ verdict }) => verdict === "blocked").length;
  let order = "inventory";

  /** Check → {severity, devices, host} for one host: the cells of its row. */
  function cells({ host, devices }) {
    const found = new Map();
    const cell = (check) => found.get(check) || (found.set(check, { devices: 0, host: false }), found.get(check));
    for (const { check, severity } of host.concerns) {
      const here = cell(check);
      here.host = true;
      here.severity = worst(here.severity, severity);
    }
    for (const device of devices) {
      const seen = new Set();
      for (const { check, severity } of device.findings) {
        const here = cell(check);
        here.severity = worst(here.severity, severity);
        if (!seen.has(check)) here.devices++;
        seen.add(check);
      }
    }
    return found;
  }

  function fleet(shown) {
    const rows = shown.map((entry) => ({ ...entry, cells: cells(entry) }));
    if (ORDERS[order][1]) rows.sort(ORDERS[order][1]);
    const checks = new Map();
    for (const row of rows) {
      for (const [id, cell] of row.cells) {
        const sum = checks.get(id) || { id, hosts: 0, devices: 0, severity: undefined };
        sum.hosts++;
        sum.devices += cell.devices;
        sum.severity = worst(sum.severity, cell.severity);
        checks.set(id, sum);
      }
    }
    // An information stands in nobody's way: it has a column only where it is asked for.
    const asked = (check) => check.severity !== "information" || filter.severity === "information" || filter.check === check.id;
    const sorted = [...checks.values()].filter(asked).sort(
      (a, b) =>
        SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || b.devices + b.hosts - a.devices - a.hosts
    );
    return [overview(rows, sorted), matrix(rows, sorted)];
  }

  function overview(rows, checks) {
    const devices = rows.flatMap((row) => row.devices);
    const bridges = rows.reduce((sum, { host }) => sum + host.devices.length - host.movable.length, 0);
    const pick = (verdict) => change({ verdict: filter.verdict === verdict ? "" : verdict });
    return h("section", { class: "overview", "aria-labelledby": "h-overview" },
      h("h2", { id: "h-overview", class: "unseen" }, "At a glance"),
      h("div", { class: "sums" },
        bar(HOST_VERDICTS, tally(rows, ({ host }) => host.verdict), rows.length === 1 ? "host" : "hosts"),
        bar(VERDICTS, tally(devices, (device) => device.verdict), devices.length === 1 ? "device" : "devices", pick),
        h("p", { class: "quiet" }, `${plural(bridges, "bridge")} not counted: none of them ever goes.`)),
      h("div", { class: "way" },
        h("h3", null, "What stands in the way"),
        checks.length ? ways(checks) : h("p", { class: "quiet" }, "Nothing.")));
  }

  function ways(checks) {
    const most = Math.max(...checks.map((check) => check.devices || check.hosts));
    const row = (check) => {
      const size = h("span", { class: `size ${check.severity}` });
      size.style.width = `${Math.max(1.5, (100 * (check.devices || check.hosts)) / most)}%`;
      const pressed = filter.check === check.id;
      return h("li", null,
        h("button", { type: "button", "aria-pressed": String(pressed), title: report.checks[check.id],
            click: () => change({ check: pressed ? "" : check.id }) },
          icon(check.severity, check.severity),
          h("span", { class: "name" }, check.id),
          h("span", { class: "track", "aria-hidden": "true" }, size),
          h("span", { class: "count" },
            check.devices ? plural(check.devices, "device") : "",
            h("span", { class: "quiet" }, check.devices ? " on " : "", plural(check.hosts, "host")))));
    };
    const list = h("ul", { class: "ways" }, checks.slice(0, 7).map(row));
    if (checks.length <= 7) return list;
    const all = () => { more.remove(); list.append(...checks.slice(7).map(row)); };
    const more = h("button", { type: "button", class: "more", click: all }, `${checks.length - 7} more`);
    unfold.push(all);
    return [list, more];
  }

  function matrix(rows, checks) {
    const choice = h("select", { id: "order", change: (event) => { order = event.target.value; render(); } },
      Object.entries(ORDERS).map(([value, [text]]) => h("option", { value, selected: value === order }, text)));
    const body = h("tbody");
    const more = fill(body, rows, (row) => matrixRow(row, checks));
    return h("section", { "aria-labelledby": "h-hosts" },
      h("div", { class: "headline" }, h("h2", { id: "h-hosts" }, "Hosts"),
        rows.length > 1 && h("label", { for: "order", class: "order" }, "Sorted by ", choice)),
      rows.length
        ? h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Hosts and what stands in the way" },
            h("table", { class: "matrix" },
              h("thead", null, h("tr", null,
                h("th", { scope: "col", class: "host" }, "Host"),
                VERDICTS.map((verdict) => h("th", { scope: "col", class: "turned verdict" }, h("span", null, icon(verdict), word(verdict)))),
                checks.map((check, index) => h("th", { scope: "col", class: `turned${index ? "" : " first"}`, title: report.checks[check.id] },
                  h("span", null, check.id))))),
              body), more)
        : nothing());
  }

  function matrixRow({ host, devices, cells: found }, checks) {
    const numbers = tally(devices, (device) => device.verdict);
    const count = (verdict) =>
      h("td", { class: `number ${numbers[verdict] ? verdict : "none"}`, "data-name": word(verdict) }, host.error === null ? numbers[verdict] || "·" : "");
    const cell = ({ id }, index) => {
      const here = found.get(id);
      const first = index ? "" : " first";
      if (!here) return h("td", { class: `none${first}` });
      const where = [here.host && "the host", here.devices && plural(here.devices, "device")].filter(Boolean).join(" and ");
      return h("td", { class: `cell ${here.severity}${first}`, "data-name": id, title: `${here.severity}: ${id}, ${where}` },
        h("span", null, icon(here.severity, here.severity), here.devices || h("small", null, "host")));
    };
    return h("tr", null,
      h("th", { scope: "row", class: "host" },
        h("div", null, icon(host.verdict, word(host.verdict)), hostLink(host),
          host.error !== null && h("span", { class: "error" }, host.error))),
      VERDICTS.map(count), checks.map(cell));
  }

  const nothing = () =>
    h("div", { class: "nothing" }, h("p", null, "Nothing matches."),
      filtered() && h("button", { type: "button", click: clear }, "Clear the search and filters"));

  // ---- The devices of the fleet.

  function deviceList(shown) {
    const devices = shown.flatMap((entry) => entry.devices);
    const list = h("ul", { class: "devices" });
    const more = fill(list, devices, (device) => {
      const { host, kind } = device;
      return h("li", null, h("a", { href: `#/host/${host.slug}/${device.address}`, class: "device" },
        h("span", { class: "where" }, h("span", { class: "on" }, host.name), mono(device.address)),
        h("span", { class: "what" }, h("b", null, vendorless(kind)), h("span", { class: "quiet" }, kind.vendor_name)),
        h("span", { class: "chips" }, chips(device)),
        badge(device.verdict),
        reason(device)));
    });
    return h("section", { "aria-labelledby": "h-devices" },
      h("h2", { id: "h-devices" }, "Devices"),
      devices.length ? [list, more] : nothing());
  }

  /** The worst finding in one line, or what blocks the whole host. */
  function reason(device) {
    const { findings: all, host, address } = device;
    const own = SEVERITIES.map((severity) => all.find((found) => found.severity === severity)).find(Boolean);
    const above = device.verdict === "blocked" && (!own || own.severity !== "blocker") && host.findings.find((found) => found.severity === "blocker");
    const first = above || own;
    if (!first) return null;
    const rest = all.length - (above ? 0 : 1);
    const text = above ? `the whole host is blocked: ${first.check}` : first.message.replace(`${address} `, "");
    return h("span", { class: "reason" }, icon(first.severity, first.severity), h("span", null, text), rest > 0 && h("span", { class: "rest" }, `+${rest}`));
  }

  function chips(device) {
    const claim = { holds: ["held by ", "held"], next: ["set for ", ""], wants: ["wanted by ", ""] };
    return [
      ...claims(device).map(({ guest, kind }) => chip([claim[kind][0], guest], `guest ${claim[kind][1]}`, "guest")),
      device.driver ? chip(device.driver, "driver mono", null, "driver") : !device.kind.bridge && chip("no driver", "absent"),
      ...interruptChip(device),
      device.group !== null && h("span", { class: "number" }, `group ${device.group}`),
    ];
  }

  function interruptChip(device) {
    if (device.mode === "msi" || device.mode === "msix") return [];
    if (!device.pin && device.mode !== "intx") return [];
    if (!device.sharers || device.line === null) return [];
    return device.sharers.length
      ? [chip(`IRQ ${device.line} shared`, "shared", "shared", `with ${device.sharers.join(", ")}`)]
      : [chip(`IRQ ${device.line}`, "", null, "an interrupt line of its own")];
  }

  // ---- One host.

  function hostPage(host, address) {
    const words = wordsOf(filter.text);
    const parts = [hostHead(host)];
    if (host.error !== null) parts.push(h("div", { class: "failure" }, h("h3", null, "Not judged"), h("pre", null, host.error)));
    if (host.findings.length) parts.push(section("h-host-findings", "What concerns the whole host", findings(host.findings)));
    if (host.guests.length || host.wants.length) parts.push(guests(host));
    if (host.devices.length) parts.push(tree(host, address, words));
    if (host.lines.length) parts.push(interruptLines(host));
    if (host.kvm) parts.push(facts(host));
    return parts;
  }

  function hostHead(host) {
    const at = hosts.indexOf(host);
    const step = (to, text, label) =>
      to ? h("a", { href: `#/host/${to.slug}`, class: "step", "aria-label": `${label} host: ${to.name}` }, text) : h("span", { class: "step off" }, text);
    return h("div", { class: "hosthead" },
      hosts.length > 1 && h("p", { class: "crumbs" }, h("a", { href: "#/" }, "All hosts"),
        h("span", { class: "steps" }, step(hosts[at - 1], "‹ previous", "Previous"), step(hosts[at + 1], "next ›", "Next"))),
      h("div", { class: "headline" }, h("h2", { id: "h-host" }, host.name || "(no name)"), badge(host.verdict)),
      h("p", { class: "quiet" }, host.kvm && [host.kvm.cpu.model, host.kvm.kernel.release && `Linux ${host.kvm.kernel.release}`].filter(Boolean).join(" · ")),
      host.movable.length > 0 && h("div", { class: "sums" },
        bar(VERDICTS, tally(host.movable, (device) => device.verdict), host.movable.length === 1 ? "device" : "devices",
          (verdict) => change({ verdict: filter.verdict === verdict ? "" : verdict }))));
  }

  const GIB = 2 ** 30;
  const bytes = (number) =>
    number === null || number === undefined ? null
      : number >= GIB ? `${+(number / GIB).toFixed(number >= 10 * GIB ? 0 : 1)} GiB`
      : number >= 2 ** 20 ? `${Math.round(number / 2 ** 20)} MiB` : `${Math.round(number / 1024)} KiB`;
  const told = (value, yes, no) => (value === true ? yes : value === false ? no : "unknown");

  function facts(host) {
    const { cpu, device, modules, iommu, kernel, boot_loader: loader, ksm, hugepages, memory, qemu, libvirt } = host.kvm;
    const fact = (name, value, ...notes) => {
      const known = value !== null && value !== undefined && value !== "" && value !== "unknown";
      return h("div", null, h("dt", null, name), h("dd", null, h("b", { class: known ? null : "absent" }, known ? value : "unknown"),
        notes.filter(Boolean).map((note) => h("span", { class: "quiet" }, note))));
    };
    const pages = hugepages.filter((pool) => pool.total);
    const access = device.accessible === false ? "present, but not for this user" : "present";
    return section("h-facts", "What the verdict stands on",
      h("dl", { class: "facts" },
        fact("Processor", cpu.model, [cpu.architecture, cpu.virtualization].filter(Boolean).join(", "), cpu.reason,
          cpu.guest && "is a virtual machine itself"),
        fact("/dev/kvm", device.present ? access : "absent", `nested guests: ${told(cpu.nested, "yes", "no")}`, modules.join(" ")),
        fact("IOMMU", told(iommu.enabled, "on", "off"),
          [iommu.table ? `table ${iommu.table}` : "no firmware table", plural(iommu.units.length, "unit"), plural(iommu.groups, "group")].join(", "),
          `interrupt remapping: ${told(iommu.remapping, "yes", "no")}`),
        fact("Kernel", kernel.release, kernel.lockdown && `lock-down: ${kernel.lockdown}`, kernel.arguments.length > 0 && mono(kernel.arguments.join(" "))),
        fact("Boot loader", loader),
        fact("Memory", bytes(memory.total), memory.available !== null && `${bytes(memory.available)} available`,
          memory.swap_total !== null && `swap ${memory.swap_total ? bytes(memory.swap_total) : "none"}`),
        fact("Huge pages", pages.length ? pages.map((pool) => `${pool.total} × ${bytes(pool.size)}`).join(", ") : "none",
          pages.map((pool) => `${pool.free} of ${bytes(pool.size)} free${pool.node === null ? "" : ` on node ${pool.node}`}`).join(", ")),
        fact("Same-page merging", ksm === null ? "not in this kernel" : ksm.run === 1 ? "on" : ksm.run === null ? null : "off",
          ksm && ksm.run === 1 && ksm.pages_sharing !== null && `${plural(ksm.pages_sharing, "page")} merged`),
        fact("QEMU", qemu.version || (qemu.path ? "version unknown" : "not found"), qemu.path),
        fact("libvirt", libvirt.version || (libvirt.assigns_pci === null ? "not found" : "version unknown"),
          libvirt.assigns_pci !== null && `assigns PCI devices: ${told(libvirt.assigns_pci, "yes", "no")}`, libvirt.reason)));
  }

  function guests(host) {
    const verdicts = new Map(host.movable.map(({ address, verdict }) => [address, verdict]));
    const devices = (list) => list.map((address, index) => [index ? ", " : "", known(host, address)]);
    const wanted = (list) => list.map((address, index) =>
      [index ? ", " : "", verdicts.has(address) && icon(verdicts.get(address), word(verdicts.get(address))), known(host, address)]);
    const rows = [
      ...host.guests.map((guest) => h("tr", null,
        h("th", { scope: "row" }, guest.name),
        h("td", null, guest.running ? "running" : "off", guest.autostart ? ", starts with the host" : ""),
        h("td", null, guest.devices.length ? [guest.running ? "holds " : "set to get ", devices(guest.devices)] : h("span", { class: "quiet" }, "no PCI device")),
        h("td", { class: "number" }, bytes(guest.memory)))),
      ...host.wants.map((want) => h("tr", null,
        h("th", { scope: "row" }, want.guest),
        h("td", null, "in the inventory"),
        h("td", null, want.fault !== null ? h("div", { class: "fault" }, icon("blocker", "fault"), long(want.fault))
          : want.devices.length ? ["wants ", wanted(want.devices)] : h("span", { class: "quiet" }, "wants no PCI device")),
        h("td"))),
    ];
    return section("h-guests", "Guests", h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", null, h("tr", null, ["Guest", "State", "Devices", "Memory"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, rows))));
  }

  const known = (host, address) =>
    host.devices.some((device) => device.address === address) ? deviceLink(host, address) : h("code", null, address);

  /** The devices in the order of the tree, each with the rails that lead to it: [[device, rails], …]. */
  function walked(host) {
    const present = new Set(host.devices.map((device) => device.address));
    const below = new Map();
    for (const device of host.devices) {
      const parent = present.has(device.parent) ? device.parent : device.address.slice(0, -5);
      below.set(parent, [...(below.get(parent) || []), device]);
    }
    const rows = [];
    const walk = (parent, rails) => {
      const children = below.get(parent) || [];
      children.forEach((device, index) => {
        const last = index === children.length - 1;
        rows.push([device, [...rails, last ? "elbow" : "tee"]]);
        walk(device.address, [...rails, last ? "blank" : "rail"]);
      });
    };
    const roots = [...below.keys()].filter((key) => !present.has(key));
    return roots.map((root) => {
      rows.length = 0;
      walk(root, []);
      return [root, [...rows]];
    });
  }

  function tree(host, address, words) {
    const sizes = tally(host.devices, (device) => device.group);
    const goers = tally(host.movable, (device) => device.group);
    const match = new Set(host.devices.filter((device) => deviceMatches(device, words)).map((device) => device.address));
    const parents = new Map(host.devices.map((device) => [device.address, device.parent]));
    const kept = new Set();
    for (let each of match) for (; each && !kept.has(each); each = parents.get(each)) kept.add(each);
    const hidden = host.devices.length - kept.size;
    const root = ([bus, rows]) => {
      const boxes = [];
      for (const [device, rails] of rows) {
        if (!kept.has(device.address)) continue;
        const box = boxes[boxes.length - 1];
        const row = deviceRow(device, rails, device.address === address, filtered() && !match.has(device.address));
        if (box && box.group === device.group) box.rows.push(row);
        else boxes.push({ group: device.group, rows: [row] });
      }
      return boxes.length > 0 && h("div", { class: "bus" }, h("h4", null, `PCI bus ${bus.slice(0, 7)}`), boxes.map(({ group, rows: list }) => {
        const size = sizes[group];
        const apart = list.length < size && !filtered() ? ", not all next to each other" : "";
        const together = goers[group] > 1 ? `: ${goers[group]} devices go together${apart}` : "";
        const label = group === null ? "in no IOMMU group" : `IOMMU group ${group}${together}`;
        const kind = group === null ? "ungrouped" : size === 1 ? "single" : "several";
        return h("div", { class: `group ${kind}`, role: "group", "aria-label": label }, h("p", { class: "label", "aria-hidden": "true" }, label), list);
      }));
    };
    return section("h-tree", "Devices",
      h("p", { class: "quiet" }, hidden > 0 ? `${hidden} of ${host.devices.length} do not match and are hidden. ` : "",
        "Each box is an IOMMU group: what is in it goes to one guest or to none."),
      kept.size ? walked(host).map(root) : nothing());
  }

  function deviceRow(device, rails, open, dim) {
    const { kind } = device;
    const inside = h("div", { class: "inside" });
    const expand = () => { if (!inside.firstChild) inside.append(...details(device)); };
    const row = h("details", {
        class: `row${kind.bridge ? " bridge" : ""}${dim ? " dim" : ""}`, id: `d-${device.address}`,
        toggle: () => row.open && expand(),
      },
      h("summary", null,
        rails.slice(1).map((rail) => h("span", { class: `rails ${rail}`, "aria-hidden": "true" })),
        h("span", { class: "line" },
          mono(device.address),
          h("span", { class: "what" }, h("b", null, vendorless(kind)), h("span", { class: "quiet" }, kind.vendor_name)),
          h("span", { class: "chips" }, chips(device)),
          kind.bridge ? h("span", { class: "badge bridge" }, "bridge") : badge(device.verdict),
          !kind.bridge && reason(device)),
        icon("open")),
      inside);
    if (open) { expand(); row.open = true; }
    if (!kind.bridge && device.findings.length) unfold.push(() => { expand(); row.open = true; });
    return row;
  }

  function details(device) {
    const { kind, host } = device;
    const row = (name, first, ...rest) => Boolean(first) && [h("dt", null, name), h("dd", null, first, ...rest)];
    const links = (addresses) => addresses.map((address, index) => [index ? ", " : "", known(host, address)]);
    const peers = host.devices.filter((other) => other !== device && other.group === device.group && device.group !== null);
    const virtual = host.devices.filter((other) => other.physical_function === device.address);
    const sharers = device.sharers && device.sharers.length ? [", shared with ", device.sharers.map((name, index) => [index ? ", " : "", known(host, name)])]
      : device.sharers ? ", shared with nobody" : device.mode === "intx" || (device.pin && !device.mode) ? ", unknown who else is on its line" : "";
    const interrupt = device.mode === "msi" || device.mode === "msix"
      ? [device.mode === "msix" ? "MSI-X" : "MSI", device.vectors ? `, ${plural(device.vectors, "vector")}` : "", device.pin && `, pin ${device.pin}`]
      : device.pin ? [`pin ${device.pin}`, device.mode === "intx" && device.line !== null ? `, line ${device.line}` : ", never enabled", sharers] : null;
    return [
      h("p", { class: "title" }, h("span", null, title(kind)), kind.subsystem_name && h("span", { class: "quiet" }, kind.subsystem_name)),
      device.findings.length > 0 ? findings(device.findings) : h("p", { class: "quiet" }, "Nothing stands in the way."),
      h("dl", { class: "fields" },
        row("Id", mono(kind.id || "unknown"), kind.subsystem_id && [", card ", mono(kind.subsystem_id)]),
        row("Card family", kind.card && mono(kind.card), h("span", { class: "quiet" }, ` ${kind.card_about}`)),
        row("Class", kind.class_name || "unknown", kind.class && [" ", mono(kind.class)]),
        row("Driver", device.driver ? mono(device.driver) : "none", device.driver_override && [", only ", mono(device.driver_override), " may bind"],
          kind.modules && h("span", { class: "quiet" }, ` claimed by ${kind.modules}`)),
        row("IOMMU group", device.group === null ? "none" : String(device.group), peers.length > 0 && [", with ", links(peers.map((peer) => peer.address))]),
        row("Interrupt", interrupt || null),
        row("Regions", kind.bars && kind.bars.split(", ").map((region) => {
          const [type, size] = region.split(" ");
          return `${type} ${type === "io" ? `${size} bytes` : bytes(+size)}`;
        }).join(", ")),
        row("Reset", kind.reset_methods === null ? null : kind.reset_methods || "none"),
        row("Functions", kind.total_vfs && `${device.num_vfs || 0} of ${kind.total_vfs} virtual functions in use `, links(virtual.map((other) => other.address))),
        row("Function of", device.physical_function && known(host, device.physical_function)),
        row("Power", device.power_state === "D0" ? null : device.power_state),
        row("NUMA node", device.numa_node === null ? null : String(device.numa_node)),
        row("Slot", device.slot),
        row("Console", kind.boot_vga && "the firmware's display")),
    ];
  }

  function interruptLines(host) {
    const rows = [...host.lines].sort((a, b) => (b.shared === true) - (a.shared === true));
    const addresses = (list) => list.map((address, index) => [index ? ", " : "", known(host, address)]);
    return section("h-lines", "Interrupt lines", h("div", { class: "scroll" }, h("table", { class: "plain" },
      h("thead", null, h("tr", null, ["Line", "Shared", "Devices", "Requested by", "Chip"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, rows.map((line) => h("tr", { class: line.shared ? "shared" : null },
        h("th", { scope: "row", class: "mono" }, String(line.irq)),
        h("td", null, line.shared ? [icon("shared"), "shared"] : line.shared === false ? "no" : h("span", { class: "absent" }, "unknown")),
        h("td", null, addresses(line.devices), line.unconfirmed.length > 0 &&
          h("span", { class: "quiet" }, line.devices.length ? "; " : "", "perhaps ", addresses(line.unconfirmed), ", never enabled")),
        h("td", { class: "mono" }, line.actions.join(", ")),
        h("td", { class: "quiet" }, [line.chip, line.trigger].filter(Boolean).join(", "))))))));
  }

  // ---- Search, filters, views.

  const select = (name, text, options) => {
    const id = `f-${name}`;
    return h("label", { for: id, class: "select" }, h("span", null, text),
      h("select", { id, name, change: (event) => change({ [name]: event.target.value }) },
        h("option", { value: "" }, "any"), options.map(([value, label]) => h("option", { value }, label || value))));
  };

  function buildFilters() {
    const ids = new Set();
    for (const host of hosts) {
      for (const found of host.concerns) ids.add(found.check);
      for (const device of host.movable) for (const found of device.findings) ids.add(found.check);
    }
    let waiting;
    const search = h("input", {
      id: "search", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "Search names, ids, drivers, guests…",
      "aria-label": "Search", "aria-keyshortcuts": "/",
      input: (event) => { clearTimeout(waiting); waiting = setTimeout(() => change({ text: event.target.value }), 120); },
      keydown: (event) => { if (event.key === "Escape") { event.target.value = ""; change({ text: "" }); } },
    });
    const form = document.getElementById("filters");
    form.addEventListener("submit", (event) => event.preventDefault());
    const wide = matchMedia("(min-width: 46rem)");
    const box = h("details", { class: "choices" }, h("summary", null, "Filters"), h("div", null,
      select("verdict", "Verdict", VERDICTS.map((name) => [name, word(name)])),
      select("severity", "Severity", SEVERITIES.map((name) => [name])),
      select("check", "Check", [...ids].sort().map((name) => [name])),
      hosts.length > 1 && select("host", "Host", hosts.map((host) => [host.slug, plain(host.name)])),
      h("button", { type: "button", id: "clear", click: clear }, "Clear")));
    box.open = wide.matches;
    wide.addEventListener("change", () => { box.open = wide.matches; });
    form.append(h("div", { class: "find" }, search, h("kbd", { "aria-hidden": "true" }, "/")), box);
    form.hidden = false;
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, select, textarea");
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    });
  }

  function change(changes) {
    Object.assign(filter, changes);
    render();
  }

  function clear() {
    document.getElementById("search").value = "";
    change({ text: "", verdict: "", severity: "", check: "", host: "" });
    document.getElementById("search").focus();
  }

  /** What the address bar asks for: {view, host, address}. */
  function route() {
    const [view, slug, address] = location.hash.replace(/^#\//, "").split("/");
    const named = view === "host" && bySlug.get(slug);
    if (named) return { view: "host", host: named, address };
    if (view === "devices") return { view };
    return hosts.length === 1 ? { view: "host", host: hosts[0] } : { view: "hosts" };
  }

  function views(here) {
    const link = (view, href, text) => h("a", { href, "aria-current": here.view === view ? "page" : null }, text);
    document.getElementById("views").replaceChildren(
      hosts.length === 1 ? link("host", `#/host/${hosts[0].slug}`, "Host") : link("hosts", "#/", "Hosts"),
      link("devices", "#/devices", "Devices"));
  }

  function status(shown, here) {
    const devices = shown.reduce((sum, entry) => sum + entry.devices.length, 0);
    const all = hosts.reduce((sum, host) => sum + host.movable.length, 0);
    document.getElementById("status").textContent = filtered() && here.view !== "host"
      ? `${shown.length.toLocaleString("en")} of ${plural(hosts.length, "host")} and ${devices.toLocaleString("en")} of ${plural(all, "device")} match` : "";
    for (const name of ["verdict", "severity", "check", "host"]) {
      const field = document.getElementById(`f-${name}`);
      if (field) field.value = filter[name];
    }
    document.getElementById("clear").disabled = !filtered();
  }

  function render() {
    const here = route();
    const main = document.getElementById("main");
    const held = main.contains(document.activeElement) ? [...main.querySelectorAll("button, select")].indexOf(document.activeElement) : -1;
    unfold = [];
    const shown = here.view === "host" ? [] : visible();
    main.replaceChildren(...(here.view === "host" ? hostPage(here.host, here.address)
      : here.view === "devices" ? [deviceList(shown)] : fleet(shown)).flat());
    views(here);
    status(shown, here);
    if (held >= 0) [...main.querySelectorAll("button, select")][held]?.focus();
    document.title = here.view === "host" ? `${plain(here.host.name)}: what can go to a guest` : "What can go to a guest, and why not";
    return here;
  }

  function navigate() {
    const here = render();
    const device = here.address && document.getElementById(`d-${here.address}`);
    if (device) {
      const summary = device.querySelector("summary");
      summary.scrollIntoView();
      summary.focus({ preventScroll: true });
    } else {
      scrollTo(0, 0);
      document.getElementById("main").focus({ preventScroll: true });
    }
  }

  const written = new Date(report.generated_at);
  document.getElementById("about").append(
    `${plural(hosts.length, "host")}, `,
    h("time", { datetime: report.generated_at }, written.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short", timeZone: "UTC" }), " UTC"),
    report.version ? `, kvm.passthrough ${plain(report.version)}` : "");
  buildFilters();
  addEventListener("hashchange", () => (location.hash.startsWith("#/") || !location.hash) && navigate());
  addEventListener("beforeprint", () => unfold.forEach((all) => all()));
  render();
  if (route().address) navigate();
})();
