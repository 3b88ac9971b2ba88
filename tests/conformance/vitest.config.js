// The tests wait most of the time, and each has streams of its own.
export default {
  test: {
    include: ["streams.suite.js"],
    testTimeout: 180_000,
    fileParallelism: false,
    sequence: { concurrent: true },
    maxConcurrency: 8,
  },
};
