window.relpropOpacity = (value) => document.documentElement.style.setProperty('--rp-opacity', value);
window.relpropSave = (text) => {
  if (!text) return;
  const {name, type, data} = JSON.parse(text);
  const bytes = Uint8Array.from(atob(data), (mark) => mark.charCodeAt(0));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([bytes], {type}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
