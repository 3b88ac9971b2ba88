export default { test: { include: ["streams.suite.js"], testTimeout: 30_000, fileParallelism: false } };
