const t = performance.now();
const { p521 } = await import("@noble/curves/nist.js");
const t1 = performance.now();
p521.keygen();
console.log("import", t1 - t, "keygen", performance.now() - t1);
