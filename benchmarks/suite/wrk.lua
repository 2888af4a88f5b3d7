-- Sends the tokens of a file, each in its turn. A thread has a part of them to itself, so that no token is ever asked
-- about twice within less than the length of that part.
-- Arguments: the file, the number of threads, the path, and the headers as "Name: value".

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

function init(args)
   local file, count, path = args[1], tonumber(args[2]), args[3]
   for place = 4, #args do
      local name, value = args[place]:match("^(.-): (.*)$")
      wrk.headers[name] = value
   end
   local requests, line = {}, 0
   for token in io.lines(file) do
      if line % count == number then
         wrk.headers["Authorization"] = "Bearer " .. token
         requests[#requests + 1] = wrk.format("GET", path)
      end
      line = line + 1
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
