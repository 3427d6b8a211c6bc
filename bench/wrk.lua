-- wrk's side of `bench/wrk.py`: one route, another node each time (with a prefix: each once), and the outcome as JSON on the last line.
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
  thread:set("next_number", threads)
end

function init(args)
  local method, route, body, nodes = args[1], args[2], args[3], tonumber(args[4])
  local headers = { Authorization = "Bearer " .. os.getenv("DD_CLUSTER_AGENT_AUTH_TOKEN"), ["X-Real-Ip"] = "" }
  math.randomseed(seed)
  if args[6] then
    delay = function() return tonumber(args[6]) end
  end
  if args[5] and args[5] ~= "" then
    -- Each name once: of two threads one has the odd numbers and one the even.
    request = function()
      next_number = next_number + 2
      return wrk.format(method, string.format("%s%s%d", route, args[5], next_number), headers, body)
    end
    return
  end
  requests = {}
  for number = 0, nodes - 1 do
    requests[number] = wrk.format(method, string.format("%snode-%05d", route, number), headers, body)
  end
  last = nodes - 1
end

function request()
  return requests[math.random(0, last)]
end

function done(summary, latency)
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    '{"rate": %f, "p50": %f, "p99": %f, "errors": %d}\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    lost + errors.status))
end
