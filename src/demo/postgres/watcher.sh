# $1 the `postgres` program, $2 the server's directory, $3 the port. Background jobs of a shell without job control read from
# /dev/null, hence descriptor 3. The file `stop` tells an ending that the pipe asked for from one of the server's own: only the
# former removes the directory.
exec 3<&0
"$1" -D "$2/data" -p "$3" >>"$2/server.log" 2>&1 3<&- &
server=$!
echo $server
exec >/dev/null
{ read -r _ <&3; : >"$2/stop"; kill -CONT $server; kill -QUIT $server; } 2>/dev/null &
reader=$!
exec 3<&-
wait $server
if [ -e "$2/stop" ]; then rm -rf "$2"; else kill $reader; fi
