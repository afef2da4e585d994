// Command proxy is the least that Go's standard library takes to forward HTTP: a control for what is built on it.
//
//	proxy LISTEN UPSTREAM [h2]
package main

import (
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
)

// buffers keeps what bodies are copied through, as long-lived proxies do.
type buffers struct{ sync.Pool }

func (b *buffers) Get() []byte       { return b.Pool.Get().([]byte) }
func (b *buffers) Put(buffer []byte) { b.Pool.Put(buffer) } //nolint:staticcheck // the interface is of slices

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: proxy LISTEN UPSTREAM [h2]")
	}
	upstream := &url.URL{Scheme: "http", Host: os.Args[2]}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	proxy.BufferPool = &buffers{sync.Pool{New: func() any { return make([]byte, 32<<10) }}}
	transport := &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000}
	if len(os.Args) > 3 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	proxy.Transport = transport
	server := &http.Server{Addr: os.Args[1], Handler: proxy, Protocols: protocols}
	log.Fatal(server.ListenAndServe())
}
