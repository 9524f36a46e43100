// Holds the secret by which this visitor gets their work back after a reload, or in a new tab. Body of a function, as
// the scripts in clicking/ are: element, props, trigger and watch come from the page.
//
//   sessionStorage   of this tab: survives a reload, so its work comes back
//   localStorage     of the browser: work whose tab was closed comes back in the next new one
//   BroadcastChannel asks the other tabs which work is theirs, so that no two of them have the same
const NAME = 'sam2kit', MOST = 8, DAYS = 1, WAIT = 250;  // WAIT: milliseconds for other tabs to answer
const recall = (storage) => {
  try { return JSON.parse(window[storage].getItem(NAME)) || []; } catch { return []; }
};
const note = (storage, entries) => {
  try { window[storage].setItem(NAME, JSON.stringify(entries)); } catch { /* then it is not kept */ }
};
const tabs = () => [...document.querySelectorAll('button[role=tab]')];
const tabShown = () => tabs().find((b) => b.getAttribute('aria-selected') === 'true')?.textContent.trim();
const isAtWork = () => ['image', 'video', 'teach'].some((name) => {
  const tools = document.getElementById(`${name}-tools`);
  return tools && !tools.classList.contains('hide') && !tools.classList.contains('hidden');
});
let mine = null, asked = false;

const keep = () => {
  if (!mine) return;
  const entry = { token: mine, tab: tabShown(), time: Date.now() };
  const others = recall('localStorage').filter((e) => e.token !== mine && Date.now() - e.time < DAYS * 864e5);
  note('sessionStorage', [entry]);
  note('localStorage', [entry, ...others].slice(0, MOST));
};
const forget = (gone) => {
  note('localStorage', recall('localStorage').filter((e) => !gone.includes(e.token)));
  note('sessionStorage', recall('sessionStorage').filter((e) => !gone.includes(e.token)));
};

const others = 'BroadcastChannel' in window ? new BroadcastChannel(NAME) : null;
const taken = new Set();
if (others) others.onmessage = ({ data }) => {
  if (data.here) taken.add(data.here);
  else if (mine) others.postMessage({ here: mine });
};
others?.postMessage({ who: true });

let entries = [];
setTimeout(() => {
  const own = recall('sessionStorage');
  entries = (own.length ? own : recall('localStorage')).filter((e) => e.token && !taken.has(e.token));
  if (entries.length && !asked) {
    asked = true;
    mine = entries[0].token;  // so that a tab that opens now leaves it alone
    trigger('claim', { tokens: entries.map((e) => e.token) });
  }
}, WAIT);

watch('value', () => {
  const told = props.value;
  if (!told) return;
  mine = told.token || null;
  forget(told.gone || []);
  const tab = entries.find((e) => e.token === mine)?.tab;
  if (told.came_back && tab && tab !== tabShown()) tabs().find((b) => b.textContent.trim() === tab)?.click();
  asked = !!mine;
  keep();
});
setInterval(() => {
  if (mine) keep();
  else if (!asked && isAtWork()) {
    asked = true;
    trigger('keep');
  }
}, 1000);
window.addEventListener('pagehide', keep);
