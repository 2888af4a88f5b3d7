-- Sends the tokens of a file, each in its turn.
-- Arguments: the file, the path, and the headers as "Name: value".

function init(args)
   local file, path = args[1], args[2]
   for place = 3, #args do
      local name, value = args[place]:match("^(.-): (.*)$")
      wrk.headers[name] = value
   end
   local requests = {}
   for token in io.lines(file) do
      wrk.headers["Authorization"] = "Bearer " .. token
      requests[#requests + 1] = wrk.format("GET", path)
   end
   local place = 0
   request = function()
      place = place % #requests + 1
      return requests[place]
   end
end

function done(summary)
   local errors = summary.errors
   print(string.format('{"answers": %d, "microseconds": %d, "denied": %d, "broken": %d}', summary.requests,
      summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
