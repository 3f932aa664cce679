/** Offer a text as a file. */
export function download(name: string, kind: string, text: string): void {
  downloadBlob(name, new Blob([text], { type: kind }));
}

export function downloadBlob(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}
