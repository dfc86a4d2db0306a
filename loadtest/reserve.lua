-- Reserves over HTTP, one unit of one of 500 pools for each request, for wrk with one thread (others would send the same
-- keys): see "HTTP" in README.md of this folder.
local sent = 0
local run = tostring(os.time())

function request()
  sent = sent + 1
  local headers = { ["Content-Type"] = "application/json", ["Idempotency-Key"] = run .. "-" .. sent }
  return wrk.format("POST", "/v1/reservations", headers, '{"pool":"p' .. sent % 500 .. '","units":{"orders":1}}')
end
