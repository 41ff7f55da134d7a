// A program that has as much as can be had of the packages that move bytes: the
// methods of what is reachable are looked up by a name that the linker does not
// know, so that it keeps them all. It does nothing.
package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"reflect"
)

func main() {
	if len(os.Args) < 2 {
		return
	}
	ctx := context.Background()
	dialer := &net.Dialer{}
	conn, err := dialer.DialContext(ctx, "tcp", os.Args[1])
	listener, err2 := net.Listen("tcp", os.Args[1])
	unix, err3 := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1]})
	packets, err4 := net.ListenUDP("udp", &net.UDPAddr{})
	raw, err5 := net.ListenIP("ip4:1", &net.IPAddr{})
	names, err6 := net.DefaultResolver.LookupHost(ctx, os.Args[1])
	db, err7 := sql.Open(os.Args[1], "")
	config := &tls.Config{}
	secure, err8 := tls.Dial("tcp", os.Args[1], config)
	answer, err9 := http.Get(os.Args[1])
	proxy := &httputil.ReverseProxy{}
	tx, err10 := db.BeginTx(ctx, nil)
	all := []any{
		conn, listener, unix, packets, raw, names, db, secure, answer, proxy, tx,
		dialer, config, &http.Server{}, &http.Transport{}, &http.Client{},
		&http.Request{}, &http.ServeMux{}, &net.TCPConn{}, &net.UnixConn{},
		&net.TCPListener{}, &net.Resolver{}, &net.Buffers{}, &net.Interface{},
		&sql.Conn{}, &sql.Rows{}, &sql.Stmt{}, &sql.Row{}, &sql.NullString{},
		tls.Client(conn, config), tls.Server(conn, config), tls.NewListener(listener, config),
		err, err2, err3, err4, err5, err6, err7, err8, err9, err10,
	}
	for _, one := range all {
		fmt.Println(reflect.ValueOf(one).MethodByName(os.Args[1]))
	}
}
