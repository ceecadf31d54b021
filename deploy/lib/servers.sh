# shellcheck shell=bash
# The servers behind a service: nginx, which answers with its own name, and a TCP and UDP echo.
# State: "$RUN/NAME/".

readonly BIG_FILE_BYTES=10485760

# The same bytes on every server, so that a client can compare them; numbered, so that misplaced bytes show.
make_big_file() {
    mkdir -p "$RUN/www"
    head -c "$BIG_FILE_BYTES" <(seq -w 1 2000000) >"$RUN/www/big"
    chmod -R a+rX "$RUN/www"
}

# write_nginx_configuration NAME LISTEN
write_nginx_configuration() {
    local name=$1 listen=$2 folder=$RUN/$1
    mkdir -p "$folder"
    cat >"$folder/nginx.conf" <<CONFIGURATION
daemon off;
user nobody nogroup;
worker_processes 1;
pid $folder/nginx.pid;
error_log $folder/error.log warn;
events { worker_connections 16384; }
http {
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    keepalive_timeout 3600;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server {
        listen $listen backlog=8192;
        default_type text/plain;
        location / { return 200 "$name\n"; }
        location = /big { alias $RUN/www/big; }
    }
}
CONFIGURATION
}

# start_nginx NAME NAMESPACE LISTEN [PREFIX COMMAND...]: the prefix sets its CPUs, for example "taskset -c 0".
start_nginx() {
    local name=$1 namespace=$2 listen=$3
    shift 3
    write_nginx_configuration "$name" "$listen"
    start_process "$name.nginx" ip netns exec "$namespace" "$@" \
        nginx -p "$RUN/$name" -c "$RUN/$name/nginx.conf" -e "$RUN/$name/error.log"
}

# start_echo NAME NAMESPACE ADDRESS...
start_echo() {
    local name=$1 namespace=$2
    shift 2
    start_process "$name.echo" ip netns exec "$namespace" \
        /usr/bin/python3 "$ROOT/deploy/lib/echo_server.py" --name "$name" --tcp-port 5000 --udp-port 5001 "$@"
}

# Waits until SERVER answers HTTP to NAMESPACE.
await_http() {
    local namespace=$1 server=$2 deadline=$((SECONDS + 10))
    until within "$namespace" curl -s -o /dev/null --max-time 1 "http://$server/"; do
        ((SECONDS < deadline)) || fail "no HTTP answer from $server in $namespace within 10 s"
        sleep 0.1
    done
}
