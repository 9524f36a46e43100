// The click widget in a notebook: the click surface, buttons, a frame slider for clips, the list of objects, and the candidates
// of an ambiguous click. `surface`, `objectList` and `candidates` are the app's own scripts; click_widget.py puts this file
// behind them, and answers.

const BUTTONS = [
  ['new', '+ New object', 'Begin another object (N)'], ['undo', 'Undo', 'Take back the last step (U)'],
  ['clear', 'Clear', 'Remove all objects; undo brings them back'],
];
const KEYS = {
  u: ['[data-deed=undo]', 'undo'], n: ['[data-deed=new]', 'new object'],
  1: ['[data-candidate="0"]', 'candidate 1'], 2: ['[data-candidate="1"]', 'candidate 2'], 3: ['[data-candidate="2"]', 'candidate 3'],
};
const CLIP_KEYS = {
  u: KEYS.u, n: KEYS.n, t: ['[data-deed=track]:not([hidden])', 'track'],
  ArrowLeft: ['[data-deed=before]', 'frame before'], ArrowRight: ['[data-deed=after]', 'next frame'],
};
const PATIENCE = 1500; // milliseconds
const BUSY = 'The kernel is busy, perhaps with a cell that runs; this is answered after it.';
const HEIGHT = 0.62; // of the window, that the picture takes at most
let views = 0;

function render({ model, el }) {
  const clip = model.get('tools').frames > 0, gone = new AbortController();
  const widget = document.createElement('div');
  widget.className = 'sk-widget';
  widget.dataset.lmSuppressShortcuts = 'true'; // JupyterLab: a key pressed here is not for the notebook
  const buttons = BUTTONS.map(([deed, text, title]) => `<button type="button" data-deed="${deed}" title="${title}">${text}</button>`);
  widget.innerHTML = `<div class="sk-surface"></div>
    <div class="sk-frames" ${clip ? '' : 'hidden'}>
      <button type="button" data-deed="before" title="Frame before (←)" aria-label="Frame before">‹</button>
      <input type="range" min="0" step="1" aria-label="Frame">
      <button type="button" data-deed="after" title="Next frame (→)" aria-label="Next frame">›</button>
      <span class="sk-frame"></span>
      <button type="button" data-deed="track" title="Follow all objects through the clip (T)">Track</button>
      <button type="button" data-deed="stop" hidden>Stop</button>
    </div>
    <div class="sk-tools">${buttons.join('')}</div>
    <div class="sk-candidates" hidden></div><div class="sk-objects"></div><div class="sk-message" role="status" aria-live="polite"></div>`;
  el.append(widget);
  const part = (name) => widget.querySelector(name);
  const note = (text) => { part('.sk-message').textContent = text; };

  // ---- talking to the kernel: every message gets one answer -----------------------------------------------------------

  const mine = `${Date.now()}.${Math.random()}.${views++}`, waiting = new Map();
  let sent = 0, patience = null;
  function tell(content) {
    const id = `${mine}.${sent++}`;
    if (!waiting.size) patience = setTimeout(() => note(BUSY), PATIENCE);
    model.send({ id, ...content });
    return new Promise((resolve) => waiting.set(id, resolve));
  }
  function heard(message) {
    const resolve = waiting.get(message.id);
    if (!resolve) return; // another view of the widget asked
    waiting.delete(message.id);
    if (!waiting.size) { clearTimeout(patience); if (part('.sk-message').textContent === BUSY) note(''); }
    resolve(message.answer);
  }
  async function act(deed, more = {}) {
    const answer = await tell({ deed, ...more });
    note(answer.says || '');
    return answer;
  }
  const watching = [['msg:custom', heard]];
  const watch = (trait) => (_, react) => watching.push([`change:${trait}`, react]);

  // ---- what is on the page -------------------------------------------------------------------------------------------

  surface(
    widget,
    { get value() { return model.get('scene'); } },
    { ask_server: (request) => tell({ ask: request }), preview_server: (request) => tell({ preview: request }) },
    () => {},
    watch('scene'),
    { title: model.get('label'), previews: !clip, keys: clip ? CLIP_KEYS : KEYS, height: HEIGHT, within: widget, gone: gone.signal },
  );
  objectList(widget, { get value() { return model.get('listed'); } }, (deed, data) => act(deed, data), watch('listed'));
  candidates(widget, { get value() { const given = model.get('candidates'); return given.rows ? given : null; } }, (deed, data) => act(deed, data), watch('candidates'));

  const slider = part('input[type=range]'), seen = part('.sk-frame');
  let dragging = false; // the slider is ahead of the kernel
  function tools() {
    const { frame, frames, tracking, undo } = model.get('tools');
    part('[data-deed=undo]').disabled = !undo || tracking;
    for (const deed of ['new', 'clear']) part(`[data-deed=${deed}]`).disabled = tracking;
    if (!clip) return;
    slider.max = frames - 1;
    if (!dragging) slider.value = frame;
    seen.textContent = `${frame} of ${frames - 1}`;
    for (const deed of ['before', 'after']) part(`[data-deed=${deed}]`).disabled = tracking;
    slider.disabled = tracking;
    part('[data-deed=track]').hidden = tracking;
    part('[data-deed=stop]').hidden = !tracking;
  }
  watching.push(['change:tools', tools]);

  async function track() {
    // the kernel tracks a little whenever it is asked, so that Stop, and other cells, get their turn
    let answer = await act('track');
    while (answer.goes_on && !gone.signal.aborted) answer = await act('step');
  }
  widget.addEventListener('click', (e) => {
    const button = e.target.closest('button');
    if (!button) return;
    const { deed } = button.dataset, { frame } = model.get('tools');
    if (deed === 'track') track();
    else if (deed === 'before' || deed === 'after') act('go', { frame: frame + (deed === 'after' ? 1 : -1) });
    else if (deed) act(deed);
  });
  slider.addEventListener('input', async () => {
    if (dragging) return; // one question at a time; the last place is asked for when it is answered
    dragging = true;
    for (let shown = null; shown !== slider.value; ) {
      shown = slider.value;
      await act('go', { frame: Number(shown) });
    }
    dragging = false;
    tools();
  });
  // a notebook would take these for itself: select the cell, open its menu, scroll
  for (const kind of ['pointerdown', 'mousedown', 'contextmenu', 'dblclick', 'keydown', 'keyup'])
    widget.addEventListener(kind, (e) => e.stopPropagation());

  tools();
  for (const [event, react] of watching) model.on(event, react);
  return () => { gone.abort(); for (const [event, react] of watching) model.off(event, react); };
}

export default { render };
