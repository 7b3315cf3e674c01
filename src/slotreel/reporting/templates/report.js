"use strict";

// A link to a run opens its details, however one comes by it: a click, the address, going back.
function openRun() {
  const run = location.hash && document.getElementById(location.hash.slice(1));
  if (run && run.tagName === "DETAILS") {
    run.open = true;
    run.scrollIntoView();
  }
}
window.addEventListener("hashchange", openRun);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#run-']");
  if (link && link.hash === location.hash) openRun(); // the address does not change
});
openRun();

// A picture that is shown twice is stored once.
for (const picture of document.querySelectorAll("img[data-same]")) {
  picture.src = document.getElementById(picture.dataset.same).src;
}

// Tables are sorted by a column when its heading is clicked: numbers by size, dashes last.
function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace(/,/g, ""));
  return Number.isNaN(number) ? text : number;
}

function before(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
  return typeof a === "number" ? -1 : 1;
}

for (const heading of document.querySelectorAll(".sortable thead th")) {
  heading.addEventListener("click", () => {
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") !== "descending" && column > 0;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows];
    rows.sort((x, y) => {
      const [a, b] = [valueOf(x, column), valueOf(y, column)];
      const mixed = typeof a !== typeof b;
      return down && !mixed ? before(b, a) : before(a, b);
    });
    body.append(...rows);
  });
}
