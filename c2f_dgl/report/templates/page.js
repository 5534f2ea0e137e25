"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);

  // Everything from the data goes through textContent: an id is never markup.
  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.map((child) => (child instanceof Node ? child : String(child))));
    return element;
  };
  // Whatever direction an id has, what stands around it keeps its own.
  const isolated = (id) => make("bdi", {}, id);
  // What a field for one line shows of an id.
  const typed = (id) => id.replace(/[\r\n]/g, "").trim();
  const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
  const figure = (value) => {
    const size = Math.abs(value);
    return (size < 0.0005 ? "0" : size < 100 ? value.toPrecision(3) : value.toFixed(0)).replace("-", "−");
  };

  // ---- The map: one tab stop, arrow keys between nodes, Enter or a click opens.
  for (const map of document.querySelectorAll(".map")) {
    const run = data.runs[map.dataset.run];
    const canvas = map.querySelector(".canvas");
    const panel = map.querySelector(".panel");
    const circles = [...canvas.querySelectorAll(".node")];
    const hint = panel.firstElementChild;
    let open = null;

    const mark = (fine) => {
      canvas.classList.toggle("marking", fine !== null);
      let marked = 0;
      for (const circle of circles) {
        const refined = fine !== null && run.nodes[circle.dataset.node][3].some(([atom, weight]) => atom === fine && weight >= 0.0005);
        circle.classList.toggle("marked", refined);
        marked += refined;
      }
      return marked;
    };

    const close = (refocus) => {
      if (open === null) return;
      open.classList.remove("open");
      open.setAttribute("aria-expanded", "false");
      mark(null);
      panel.replaceChildren(hint);
      if (refocus) open.focus();
      open = null;
    };

    const show = (circle) => {
      close(false);
      open = circle;
      circle.classList.add("open");
      circle.setAttribute("aria-expanded", "true");
      const [nItems, nUsers, items, fine] = run.nodes[circle.dataset.node];
      const closer = make("button", { type: "button", class: "close", "aria-label": "Close the node" }, "×");
      closer.addEventListener("click", () => close(true));
      const inside = [count(nItems, "item", "items"), ...(nUsers ? [count(nUsers, "user", "users")] : [])];
      const children = [closer, make("h4", {}, `Coarse node ${circle.dataset.node}`), make("p", {}, inside.join(", "))];
      if (fine.length) {
        const said = make("p", { role: "status" });
        const buttons = fine.filter(([, weight]) => weight >= 0.0005).map(([atom, weight]) => {
          const button = make("button", { type: "button", "aria-pressed": "false" }, `fine ${atom} · ${figure(weight)}`);
          button.addEventListener("click", () => {
            const pressed = button.getAttribute("aria-pressed") === "true";
            for (const other of buttons) other.setAttribute("aria-pressed", "false");
            button.setAttribute("aria-pressed", String(!pressed));
            const marked = mark(pressed ? null : atom);
            said.textContent = pressed ? "" : `refines ${count(marked, "coarse node", "coarse nodes")}, marked on the map`;
          });
          return button;
        });
        const faint = fine.length - buttons.length;
        children.push(make("h5", {}, "Fine nodes that refine it, and their weights"));
        children.push(make("ul", { class: "chips" }, ...buttons.map((button) => make("li", {}, button))), said);
        if (faint) children.push(make("p", { class: "hint" }, `and ${faint} with weights below 0.0005`));
      }
      children.push(make("h5", {}, items.length < nItems ? `Items inside, the ${items.length} most popular` : "Items inside"));
      children.push(make("ul", { class: "chips items" }, ...items.map((item) => make("li", {}, item))));
      panel.replaceChildren(...children);
    };

    const focus = (circle) => {
      for (const other of circles) other.setAttribute("tabindex", other === circle ? "0" : "-1");
      circle.focus();
    };
    const at = (circle) => [Number(circle.getAttribute("cx")), Number(circle.getAttribute("cy"))];
    const nearest = (from, dx, dy) => {
      const [x, y] = at(from);
      let best = null;
      let least = Infinity;
      for (const circle of circles) {
        const [u, v] = at(circle);
        const along = (u - x) * dx + (v - y) * dy;
        const across = Math.abs((u - x) * dy) + Math.abs((v - y) * dx);
        if (circle !== from && along > 0 && across <= along * 1.5 && along + 2 * across < least) {
          best = circle;
          least = along + 2 * across;
        }
      }
      return best;
    };
    const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      const circle = event.target.closest(".node");
      if (circle === null) return;
      if (event.key === "Enter" || event.key === " ") show(circle);
      else if (event.key in arrows) {
        const next = nearest(circle, ...arrows[event.key]);
        if (next !== null) focus(next);
      } else if (event.key === "Home") focus(circles[0]);
      else if (event.key === "End") focus(circles[circles.length - 1]);
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("click", (event) => {
      const circle = event.target.closest(".node");
      if (circle === null) return;
      focus(circle);
      if (circle === open) close(true);
      else show(circle);
    });
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close(true);
    });
  }

  // ---- The look-up.
  const reasons = ([, score, , because, others, rest], nHistory) => {
    const cell = make("td", { class: "reasons" });
    because.forEach(([item, value], i) => {
      cell.append(i ? ", " : "", make("b", {}, isolated(item)), ` ${figure(value)}`);
    });
    const more = nHistory - because.length;
    if (more > 0) cell.append(`, ${more} more ${figure(others)}`);
    if (Math.abs(rest) >= 0.005 * Math.abs(score)) cell.append(`; elsewhere ${figure(rest)}`);
    return cell;
  };
  const recommended = (run, user, several) => {
    const [nHistory, history, ranked] = run.users[user];
    const rows = ranked.map((entry, i) => {
      const item = make("td", {}, isolated(entry[0]));
      if (entry[2]) item.append(" ", make("span", { class: "hit" }, "✓ held out"));
      return make("tr", {}, make("td", { class: "number" }, i + 1), item, make("td", { class: "number" }, figure(entry[1])), reasons(entry, nHistory));
    });
    const heads = [["", "number"], ["item", ""], ["score", "number"], ["because of", ""]];
    const head = make("tr", {}, ...heads.map(([name, style]) => make(name ? "th" : "td", name ? { scope: "col", class: style } : {}, name)));
    const listed = history.flatMap((item) => [", ", isolated(item)]).slice(1);
    if (history.length < nHistory) listed.push(", …");
    return make(
      "article",
      {},
      ...(several ? [make(data.groups.length > 1 ? "h4" : "h3", {}, run.name)] : []),
      make("p", { class: "history" }, "User ", isolated(user), ` has had ${count(nHistory, "item", "items")}: `, ...listed),
      make("table", {}, make("caption", {}, "Recommended, best first"), make("thead", {}, head), make("tbody", {}, ...rows)),
    );
  };

  for (const lookup of document.querySelectorAll(".lookup")) {
    const group = data.groups[lookup.dataset.group];
    const form = lookup.querySelector("form");
    const input = lookup.querySelector("input");
    const said = lookup.querySelector("output");
    const found = lookup.querySelector(".found");
    lookup.querySelector("datalist").append(...group.users.map((user) => make("option", { value: user })));
    let place = 0;

    const show = (i) => {
      place = i;
      const user = group.users[i];
      input.value = user;
      said.textContent = `${i + 1} of ${group.users.length}`;
      const members = group.runs.filter((number) => Object.hasOwn(data.runs[number].users, user));
      found.replaceChildren(
        ...members.map((number) => recommended(data.runs[number], user, data.runs.length > 1)),
      );
    };
    const asked = () => group.users.findIndex((user) => typed(user) === typed(input.value));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const i = asked();
      if (i >= 0) return show(i);
      said.textContent = input.value.trim() ? "not among the users on this page" : "type a user's id";
    });
    input.addEventListener("change", () => {
      const i = asked();
      if (i >= 0) show(i);
    });
    for (const button of form.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => show((place + Number(button.dataset.step) + group.users.length) % group.users.length));
    }
    if (group.users.length) show(0);
  }
  const counts = data.groups.map((group) => group.users.length);
  document.querySelector("[data-count]").textContent = counts.join(" and ");

  // Paper shows what a closed <details> hides.
  const shut = [...document.querySelectorAll("details:not([open])")];
  addEventListener("beforeprint", () => shut.forEach((details) => (details.open = true)));
  addEventListener("afterprint", () => shut.forEach((details) => (details.open = false)));
})();
