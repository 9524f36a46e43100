// The canvas of the click widget in a notebook, with the candidates of an ambiguous click below it. `clickCanvas` is the app's
// own script; click_widget.py puts this file behind it, makes the controls around it, and answers.

const BUTTONS = { u: ['.sk-do-undo', 'undo'], n: ['.sk-do-new', 'new object'] };
const CANDIDATES = Object.fromEntries([1, 2, 3].map((i) => [i, [`[data-candidate="${i - 1}"]`, `candidate ${i}`]]));
const FRAMES = {
  t: ['.sk-do-track', 'track or stop'], ArrowLeft: ['.sk-do-before', 'frame before'], ArrowRight: ['.sk-do-after', 'next frame'],
};
const PATIENCE = 1500; // milliseconds
const BUSY = 'The kernel is busy, perhaps with a cell that runs; this is answered after it.';
const HEIGHT = 0.62; // of the window, that the picture takes at most
let views = 0;

function render({ model, el }) {
  const gone = new AbortController(), watching = [];
  el.classList.add('sk-canvas');
  el.dataset.lmSuppressShortcuts = 'true'; // JupyterLab: a key pressed here is not for the notebook
  el.innerHTML = '<div class="sk-surface"></div><div class="sk-candidates" hidden></div><div class="sk-message" role="status"></div>';
  const note = (text) => { el.querySelector('.sk-message').textContent = text; };

  // every message to the kernel gets one answer
  const mine = `${Date.now()}.${Math.random()}.${views++}`, waiting = new Map();
  let sent = 0, patience = null;
  function tell(content) {
    const id = `${mine}.${sent++}`;
    if (!waiting.size) patience = setTimeout(() => note(BUSY), PATIENCE);
    model.send({ id, ...content });
    return new Promise((resolve) => waiting.set(id, resolve));
  }
  watching.push(['msg:custom', (message) => {
    const resolve = waiting.get(message.id);
    if (!resolve) return; // another view of the widget asked
    waiting.delete(message.id);
    if (!waiting.size) { clearTimeout(patience); note(''); }
    resolve(message.answer);
  }]);

  clickCanvas(
    el,
    { get value() { return model.get('scene'); } },
    { ask_server: (request) => tell({ ask: request }), preview_server: (request) => tell({ preview: request }) },
    async (name, data) => { if (data) note((await tell({ gesture: name, ...data })).says || ''); },
    (_, react) => watching.push(['change:scene', react]),
    {
      title: model.get('label'), keys: { ...BUTTONS, ...CANDIDATES, ...(model.get('frames') ? FRAMES : {}) }, height: HEIGHT,
      within: el, around: () => el.closest('.sk-widget') || el, gone: gone.signal,
    },
  );
  // a notebook would take these for itself: select the cell, open its menu, scroll
  for (const kind of ['pointerdown', 'mousedown', 'contextmenu', 'dblclick', 'keydown', 'keyup'])
    el.addEventListener(kind, (e) => e.stopPropagation());
  for (const [event, react] of watching) model.on(event, react);
  return () => { gone.abort(); for (const [event, react] of watching) model.off(event, react); };
}

export default { render };
