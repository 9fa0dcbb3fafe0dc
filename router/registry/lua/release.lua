-- KEYS table log meta leases lease:<name> owned:<name>
-- ARGV name, how many endpoints at most
-- Reply {1 if the lease is gone (0: call again), version}

clock()
local _, version = open_table()
local changes = {}
local _, gone = drop(ARGV[1], tonumber(ARGV[2]), changes)
return {gone and 1 or 0, append(version, changes)}
