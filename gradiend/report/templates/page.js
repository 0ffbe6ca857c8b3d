"use strict";
(() => {
  // Tables: a button in each heading sorts by the column; numbers are compared by their exact values.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const numeric = head.classList.contains("n");
      const order = (a, b) => numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => rising ? order(a, b) : order(b, a));
      table.tBodies[0].append(...rows);
    }));
  }

  // Encodings: the point under the pointer, or the point that the arrow keys have reached, shows its text.
  const bands = document.querySelector(".bands");
  const data = bands && JSON.parse(document.getElementById("points").textContent);
  let pinned = false;
  if (bands) {
    const tip = bands.querySelector(".tip");
    const elements = [...bands.querySelectorAll(".band")];
    const at = elements.map((_, band) => Math.floor(data.bands[band].x.length / 2));
    const part = (name, text) => { const node = document.createElement(name); node.textContent = text; return node; };

    const hide = () => {
      tip.hidden = true; pinned = false;
      for (const ring of bands.querySelectorAll(".here")) ring.setAttribute("d", "");
    };
    const show = (band, point) => {
      hide();
      const own = data.bands[band], element = elements[band], svg = element.querySelector("svg");
      at[band] = point;
      for (const ring of element.querySelectorAll(".here")) ring.setAttribute("d", `M${own.x[point]},${own.y[point]}h0`);
      const word = data.words[own.w[point]], other = data.words[own.a[point]], value = own.e[point];
      const told = `${value > 0 ? "+" : ""}${value.toFixed(3)}`.replace("-", "−");
      const line = document.createElement("span");
      data.texts[own.t[point]].split("[MASK]").forEach((piece, i) => {
        if (i) line.append(part("mark", word || "[MASK]"));
        line.append(piece);
      });
      tip.replaceChildren(part("b", `${told}  ${element.dataset.name}`), line);
      if (other && other !== word) tip.append(document.createElement("br"), part("small", `compared with: ${other}`));
      tip.hidden = false;
      const box = svg.getBoundingClientRect(), outer = bands.getBoundingClientRect();
      const x = box.left - outer.left + own.x[point] / 1000 * box.width;
      const y = box.top - outer.top + own.y[point];
      tip.style.left = `${Math.max(0, Math.min(x - tip.offsetWidth / 2, outer.width - tip.offsetWidth))}px`;
      const below = outer.top + y + 16 + tip.offsetHeight < window.innerHeight;
      tip.style.top = `${below ? y + 16 : y - tip.offsetHeight - 14}px`;
    };
    const nearest = (band, event) => {
      const own = data.bands[band], box = elements[band].querySelector("svg").getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      let best = -1, least = 24 * 24;
      for (let i = 0; i < own.x.length; i++) {
        const dx = own.x[i] / 1000 * box.width - x, dy = own.y[i] - y, distance = dx * dx + dy * dy * 0.25;
        if (distance < least) { least = distance; best = i; }
      }
      return best;
    };
    const jumps = { ArrowRight: 1, ArrowLeft: -1, PageUp: 25, PageDown: -25 };
    elements.forEach((element, band) => {
      const last = data.bands[band].x.length - 1;
      element.addEventListener("pointermove", (event) => {
        if (pinned || event.pointerType === "touch") return;
        const point = nearest(band, event);
        if (point < 0) hide(); else show(band, point);
      });
      element.addEventListener("click", (event) => {
        const point = nearest(band, event);
        if (point < 0) return hide();
        show(band, point); pinned = true;
      });
      element.addEventListener("keydown", (event) => {
        const to = event.key === "Home" ? 0 : event.key === "End" ? last : at[band] + jumps[event.key];
        if (event.key === "Escape") return hide();
        if (Number.isNaN(to)) return;
        event.preventDefault();
        show(band, Math.max(0, Math.min(last, to))); pinned = true;
      });
      element.addEventListener("focus", () => { if (element.matches(":focus-visible")) { show(band, at[band]); pinned = true; } });
      element.addEventListener("blur", hide);
    });
    bands.addEventListener("pointerleave", () => { if (!pinned) hide(); });
  }

  // The page of a run that goes on loads itself again, at the same place, unless somebody reads a point.
  const seconds = Number(document.body.dataset.refresh);
  if (seconds > 0) {
    const key = "gradiend-scroll";
    try {
      const place = sessionStorage.getItem(key);
      if (place !== null) scrollTo(0, Number(place));
    } catch { /* Some browsers give files no storage: the page then keeps the place that the browser remembers. */ }
    setInterval(() => {
      if (pinned || document.hidden) return;
      try { sessionStorage.setItem(key, String(scrollY)); } catch { /* see above */ }
      location.reload();
    }, seconds * 1000);
  }
})();
