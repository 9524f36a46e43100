// What belongs to the whole page. Body of a function, as the other scripts here are: element, props, trigger and watch
// come from the page.
//   Ctrl+V anywhere, and a file dropped anywhere: a photo goes to the Image tab, a video to the Video tab.
//   A secret, by which this visitor gets their work back after a reload, or in a new tab:
//     sessionStorage   of this tab: survives a reload, so its work comes back
//     localStorage     of the browser: work whose tab was closed comes back in the next new one
//     BroadcastChannel asks the other tabs which work is theirs, so that no two of them have the same
const tabs = () => [...document.querySelectorAll('button[role=tab]')];
const tabOf = (title) => tabs().find((b) => b.textContent.trim() === title);
const shownTab = () => tabs().find((b) => b.getAttribute('aria-selected') === 'true')?.textContent.trim();

// paste and drop
const photo = /\.(jpe?g|png|webp|bmp|tiff?|heic|heif|gif)$/i;
const video = /\.(mp4|mov|m4v|mkv|webm|avi|3gp|mts|m2ts)$/i;
const hand = (files, place, tries) => {  // a tab's parts come to the page when it is shown for the first time
  const input = document.querySelector('#' + place + '-upload input[type=file]');
  if (!input) {
    if (tries) setTimeout(() => hand(files, place, tries - 1), 100);
    return;
  }
  const box = new DataTransfer();
  for (const file of input.multiple ? files : files.slice(0, 1)) box.items.add(file);
  input.files = box.files;
  input.dispatchEvent(new Event('change', { bubbles: true }));
};
const give = (files) => {
  const isOf = (f, kind, name) => f.type.startsWith(kind + '/') || name.test(f.name);
  const found = [...(files || [])].find((f) => isOf(f, 'image', photo) || isOf(f, 'video', video));
  if (!found) return false;
  const tunes = shownTab() === 'Fine-tune';
  const place = isOf(found, 'video', video) ? 'Video' : tunes ? 'Fine-tune' : 'Image';
  tabOf(place)?.click();
  const rest = [...files].filter((f) => f !== found && isOf(f, 'image', photo));
  hand([found, ...rest], { Video: 'video', 'Fine-tune': 'finetune', Image: 'image' }[place], 50);
  return true;
};
document.addEventListener('paste', (e) => {
  const t = e.target;
  const typing = t.matches && t.matches('textarea, input:not([type=radio]):not([type=checkbox])');
  if (!typing && give(e.clipboardData && e.clipboardData.files)) e.preventDefault();
});
document.addEventListener('dragover', (e) => e.preventDefault());
document.addEventListener('drop', (e) => {
  if (e.target.closest('#image-upload, #video-upload, #finetune-upload')) return;
  e.preventDefault();
  give(e.dataTransfer && e.dataTransfer.files);
});

// work that comes back
const NAME = 'sam2kit', MOST = 8, DAYS = 1, WAIT = 250, SIGN = 6e4;
// milliseconds: WAIT for other tabs to answer; each SIGN, the server hears that this page lives on
const recall = (storage) => {
  try { return JSON.parse(window[storage].getItem(NAME)) || []; } catch { return []; }
};
const note = (storage, entries) => {
  try { window[storage].setItem(NAME, JSON.stringify(entries)); } catch { /* then it is not kept */ }
};
const isAtWork = () => ['image', 'video', 'finetune'].some((name) => {
  const tools = document.getElementById(`${name}-tools`);
  return tools && !tools.classList.contains('hide') && !tools.classList.contains('hidden');
});
let mine = null, asked = false, sign = Date.now();

const keep = () => {
  if (!mine) return;
  const entry = { token: mine, tab: shownTab(), time: Date.now() };
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
  if (told.came_back && tab && tab !== shownTab()) tabOf(tab)?.click();
  asked = !!mine;
  keep();
});
setInterval(() => {
  if (mine) {
    keep();
    if (Date.now() - sign > SIGN) {
      sign = Date.now();
      trigger('keep');
    }
  } else if (!asked && isAtWork()) {
    asked = true;
    trigger('keep');
  }
}, 1000);
window.addEventListener('pagehide', keep);
