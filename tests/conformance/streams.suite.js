// The conformance suite of the Durable Streams protocol, for test_durable_streams.py: vitest run, with STREAM_SERVER.
import { runConformanceTests } from "@durable-streams/server-conformance-tests";

runConformanceTests({ baseUrl: process.env.STREAM_SERVER });
