
// The page around it. Ids and titles come from others, so they are only ever set as text.
{
  const at = (id) => document.getElementById(id);
  const MATCHES = 8, RECOMMENDED = 20, REASONS = 3;

  function made(tag, name, ...parts) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...parts);
    return element;
  }

  function button(name, text, label, act) {
    const element = made("button", name, text);
    element.type = "button";
    if (label) element.setAttribute("aria-label", label);
    element.addEventListener("click", act);
    return element;
  }

  const counted = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

  function start(model) {
    const chosen = new Set();
    const text = (row) => {
      const said = model.titles?.[row] || String(model.ids[row]);
      return said.trim() ? said : JSON.stringify(said);
    };
    // What is written from right to left stays inside of its own element.
    const label = (row) => made("bdi", "", text(row));
    const number = (row) => (model.titles ? [" ", made("small", "id", made("bdi", "", String(model.ids[row])))] : []);
    const lower = model.ids.map((id, row) => `${model.titles ? model.titles[row] : ""}\n${id}`.toLowerCase().trim());

    function matches(query) {
      const exact = model.find(query), first = [], others = [];
      for (let row = 0; row < lower.length && first.length < MATCHES; row++) {
        if (chosen.has(row) || row === exact) continue;
        const place = lower[row].indexOf(query.toLowerCase());
        if (place === 0 || (place > 0 && lower[row][place - 1] === "\n")) first.push(row);
        else if (place > 0 && others.length < MATCHES) others.push(row);
      }
      const best = exact >= 0 && !chosen.has(exact) ? [exact] : [];
      return [...best, ...first, ...others].slice(0, MATCHES);
    }

    function search() {
      const query = at("search").value.trim(), rows = query ? matches(query) : [];
      at("matches").replaceChildren(...rows.map((row) => {
        const found = button("match", "", "", () => choose(row, "search"));
        found.append(label(row), ...number(row));
        return made("li", "", found);
      }));
      at("none").hidden = !query || rows.length > 0;
    }

    // What was clicked is gone when all is drawn again, so the focus goes to what is around it.
    function choose(row, around) {
      chosen.add(row);
      at("search").value = "";
      draw();
      at(around).focus({ preventScroll: true });
    }

    function drop(rows) {
      for (const row of rows) chosen.delete(row);
      draw();
      at("chosen").focus({ preventScroll: true });
    }

    function why(history, id) {
      const { terms } = model.explain(history, id);
      const all = terms.reduce((sum, { contribution }) => sum + Math.abs(contribution), 0);
      const most = terms.filter(({ contribution }) => contribution > 0).slice(0, REASONS);
      if (!most.length) return [];
      const parts = most.flatMap(({ row, contribution }, place) => [
        place ? ", " : "because of ", label(row), ` (${Math.round((100 * contribution) / all)}\u00a0%)`,
      ]);
      return [made("p", "why", ...parts)];
    }

    function draw() {
      search();
      at("chosen").replaceChildren(...[...chosen].map((row) => (
        made("li", "", label(row), button("drop", "×", `Remove ${text(row)}`, () => drop([row])))
      )));
      at("clear").hidden = chosen.size < 2;
      const history = [...chosen].map((row) => model.ids[row]);
      const { items } = model.recommend(history, RECOMMENDED);
      at("heading").textContent = chosen.size ? "For you" : "Popular";
      at("said").textContent = chosen.size
        ? `${counted(items.length, "recommendation")} from ${counted(chosen.size, "item")}`
        : "Choose items that you like, and this list becomes yours.";
      at("recommended").replaceChildren(...items.map(({ row, id }) => {
        const about = made("div", "about", label(row), ...number(row), ...(chosen.size ? why(history, id) : []));
        return made("li", "", about, button("add", "+", `Choose ${text(row)}`, () => choose(row, "recommended")));
      }));
    }

    at("about").textContent = [model.details.data, counted(model.length, "item")].filter(Boolean).join(" · ");
    at("search").placeholder = model.titles ? "Title or id" : "Id";
    at("search").addEventListener("input", search);
    at("search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") at("matches").querySelector("button")?.click();
    });
    at("clear").addEventListener("click", () => drop([...chosen]));
    draw();
    at("main").hidden = false;
  }

  async function unpacked(packed) {
    if (!window.DecompressionStream) throw new Error("this browser is too old");
    try {
      const text = atob(packed), stored = new Uint8Array(text.length);
      for (let place = 0; place < text.length; place++) stored[place] = text.charCodeAt(place);
      const stream = new Blob([stored]).stream().pipeThrough(new DecompressionStream("deflate"));
      return await new Response(stream).arrayBuffer();
    } catch {
      throw new Error("this page is damaged");
    }
  }

  try {
    start(read(await unpacked(at("model").textContent)));
  } catch (error) {
    at("failed").textContent = `The model cannot be read: ${error.message}`;
    at("failed").hidden = false;
  }
}
