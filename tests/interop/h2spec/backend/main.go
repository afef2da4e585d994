// The server that h2spec asks: Go's own, with HTTP/2 by prior knowledge. It prints its address once it listens.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{
		Protocols: &protocols,
		// It tells of every violation, and there are many.
		ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
			// What h2spec uploads is cut on purpose.
			_, _ = io.Copy(io.Discard, request.Body)
			_, _ = io.WriteString(response, "hello\n")
		}),
	}
	log.Fatal(server.Serve(listener))
}
