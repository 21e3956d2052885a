/* The only script of the book: light and dark, copy buttons, keyboard and faded edge of boxes that scroll. Every page works without it. */
"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const mode = () => root.dataset.theme || (dark.matches ? "dark" : "light");

  const button = document.querySelector("[data-mode-switch]");
  const show = () => button.setAttribute("aria-pressed", String(mode() === "dark"));
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = mode() === "dark" ? "light" : "dark";
    try { localStorage.setItem("mode", root.dataset.theme); } catch { /* a private window: for this page only */ }
    show();
  });
  dark.addEventListener("change", show);
  show();

  if (navigator.clipboard) {
    for (const source of document.querySelectorAll(".cell_input > .highlight-ipython3, .text > section div[class*=highlight-]:not(.output)")) {
      const pre = source.querySelector("pre");
      if (!pre || source.querySelector(".copy")) continue;
      const copy = document.createElement("button");
      copy.type = "button";
      copy.className = "copy";
      copy.textContent = "Copy";
      copy.addEventListener("click", async () => {
        await navigator.clipboard.writeText(pre.textContent);
        copy.textContent = "Copied";
        setTimeout(() => { copy.textContent = "Copy"; }, 1500);
      });
      source.append(copy);
    }
  }

  const boxes = document.querySelectorAll(".scroll");
  const reach = (box) => {
    box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  };
  const watch = new ResizeObserver((entries) => entries.forEach((entry) => reach(entry.target)));
  boxes.forEach((box) => {
    watch.observe(box);
    box.addEventListener("scroll", () => reach(box), { passive: true });
  });
  document.fonts.ready.then(() => boxes.forEach(reach));

  for (const link of document.querySelectorAll(".drawer a")) link.addEventListener("click", () => { link.closest("details").open = false; });
})();
