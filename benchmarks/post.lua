-- What wrk sends: POSTs of 1 KiB, each under an idempotency key of its own; and one JSON line.
local nth = 0
local run = os.time()

function init(args)
  run = args[1] or run
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer anna"
  wrk.body = '{"customer":"anna","items":[' ..
    string.rep('{"sku":"4711","quantity":1,"note":"xxxxxxxxxxxx"},', 19) ..
    '{"sku":"4712","quantity":2,"note":"yyyyyyyyyyyy"}]}'
end

function request()
  nth = nth + 1
  wrk.headers["Idempotency-Key"] = "bench-" .. run .. "-" .. nth
  return wrk.format()
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.3f,"failed":%d,"p50_ms":%.3f,"p99_ms":%.3f}\n',
    summary.requests, summary.duration / 1e6,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
