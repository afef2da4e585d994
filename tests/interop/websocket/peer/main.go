// github.com/coder/websocket as one of the peers of local_websocket; what it has to do is said in peer.js.
//
//	peer server PORT
//	peer client URL        how each case ended, as one JSON object
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/coder/websocket"
)

const large = 16 << 20

var background = context.Background()

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: peer server PORT | peer client URL")
	}
	switch mode, where := os.Args[1], os.Args[2]; mode {
	case "server":
		log.Fatal(http.ListenAndServe("127.0.0.1:"+where, http.HandlerFunc(serve)))
	case "client":
		ask(where)
	default:
		log.Fatalf("unknown mode %q; it is server or client", mode)
	}
}

func serve(response http.ResponseWriter, request *http.Request) {
	options := websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover, CompressionThreshold: 1}
	socket, err := websocket.Accept(response, request, &options)
	if err != nil {
		return
	}
	defer func() { _ = socket.CloseNow() }()
	socket.SetReadLimit(-1)
	for {
		kind, data, err := socket.Read(background)
		if err != nil {
			return
		}
		text := ""
		if kind == websocket.MessageText {
			text = string(data)
		}
		command, rest, _ := strings.Cut(text, " ")
		switch command {
		case "pieces":
			err = sendPieces(socket, text)
		case "close":
			code, reason, _ := strings.Cut(rest, " ")
			number, _ := strconv.Atoi(code)
			err = socket.Close(websocket.StatusCode(number), reason)
		case "ping":
			// The answer is found by the reading here.
			go func() {
				if socket.Ping(background) == nil {
					_ = socket.Write(background, websocket.MessageText, []byte("ponged"))
				}
			}()
		case "abort":
			return
		default:
			err = socket.Write(background, kind, data)
		}
		if err != nil {
			return
		}
	}
}

func sendPieces(socket *websocket.Conn, text string) error {
	writer, err := socket.Writer(background, websocket.MessageText)
	if err != nil {
		return err
	}
	half := len(text) / 2
	for _, piece := range []string{text[:half], text[half:]} {
		if _, err := writer.Write([]byte(piece)); err != nil {
			return err
		}
	}
	return writer.Close()
}

func pattern(length int) []byte {
	data := make([]byte, length)
	for index := range data {
		data[index] = byte(index % 251)
	}
	return data
}

func open(url string, mode websocket.CompressionMode) (*websocket.Conn, string, error) {
	options := websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1}
	socket, response, err := websocket.Dial(background, url, &options)
	if err != nil {
		return nil, "", err
	}
	socket.SetReadLimit(-1)
	return socket, response.Header.Get("Sec-WebSocket-Extensions"), nil
}

func echo(socket *websocket.Conn, kind websocket.MessageType, sent []byte, inPieces bool) (string, error) {
	var err error
	if inPieces {
		err = sendPieces(socket, string(sent))
	} else {
		err = socket.Write(background, kind, sent)
	}
	if err != nil {
		return "", err
	}
	received, data, err := socket.Read(background)
	if err != nil {
		return "", err
	}
	if received != kind || !bytes.Equal(data, sent) {
		return fmt.Sprintf("%d other bytes", len(data)), nil
	}
	return "the same", nil
}

// end says how the other side answered the close.
func end(socket *websocket.Conn, code websocket.StatusCode, reason string) string {
	if err := socket.Close(code, reason); err != nil {
		return ended(err)
	}
	return fmt.Sprintf("%d %s", code, reason)
}

// ended says how a connection ended, without words that have addresses in them.
func ended(err error) string {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		return fmt.Sprintf("closed with %d %s", closed.Code, closed.Reason)
	}
	return "ended without a close frame"
}

func echoed(kind websocket.MessageType, sent []byte, inPieces bool) func(string) (string, error) {
	return func(url string) (string, error) {
		socket, _, err := open(url, websocket.CompressionDisabled)
		if err != nil {
			return "", err
		}
		outcome, err := echo(socket, kind, sent, inPieces)
		if err != nil {
			return "", err
		}
		return outcome + ", " + end(socket, websocket.StatusNormalClosure, ""), nil
	}
}

func ping(url string) (string, error) {
	socket, _, err := open(url, websocket.CompressionDisabled)
	if err != nil {
		return "", err
	}
	reading := socket.CloseRead(background)
	if err := socket.Ping(reading); err != nil {
		return "", err
	}
	return "answered", socket.CloseNow()
}

func pinged(url string) (string, error) {
	socket, _, err := open(url, websocket.CompressionDisabled)
	if err != nil {
		return "", err
	}
	if err := socket.Write(background, websocket.MessageText, []byte("ping")); err != nil {
		return "", err
	}
	_, data, err := socket.Read(background)
	if err != nil {
		return "", err
	}
	return string(data) + ", " + end(socket, websocket.StatusNormalClosure, ""), nil
}

func untilClosed(sent string) func(string) (string, error) {
	return func(url string) (string, error) {
		socket, _, err := open(url, websocket.CompressionDisabled)
		if err != nil {
			return "", err
		}
		if err := socket.Write(background, websocket.MessageText, []byte(sent)); err != nil {
			return "", err
		}
		_, data, err := socket.Read(background)
		return string(data), err
	}
}

func clientCloses(url string) (string, error) {
	socket, _, err := open(url, websocket.CompressionDisabled)
	if err != nil {
		return "", err
	}
	return end(socket, 4002, "done"), nil
}

func clientAborts(url string) (string, error) {
	socket, _, err := open(url, websocket.CompressionDisabled)
	if err != nil {
		return "", err
	}
	return "aborted", socket.CloseNow()
}

func deflate(url string) (string, error) {
	socket, extensions, err := open(url, websocket.CompressionContextTakeover)
	if err != nil {
		return "", err
	}
	outcomes := []string{extensions}
	for _, text := range []string{strings.Repeat("again and again ", 10_000), "again and again", "and again"} {
		outcome, err := echo(socket, websocket.MessageText, []byte(text), false)
		if err != nil {
			return "", err
		}
		outcomes = append(outcomes, outcome)
	}
	return strings.Join(outcomes, ", ") + ", " + end(socket, websocket.StatusNormalClosure, ""), nil
}

func ask(url string) {
	cases := []struct {
		name    string
		attempt func(string) (string, error)
	}{
		{"text", echoed(websocket.MessageText, []byte("grüße, 世界 🌍"), false)},
		{"binary", echoed(websocket.MessageBinary, pattern(100_000), false)},
		{"empty", echoed(websocket.MessageText, nil, false)},
		{"fragments", echoed(websocket.MessageText, []byte("two frames"), true)},
		{"fragments_back", echoed(websocket.MessageText, []byte("pieces of an answer"), false)},
		{"large", echoed(websocket.MessageBinary, pattern(large), false)},
		{"ping", ping},
		{"pinged", pinged},
		{"server_closes", untilClosed("close 4001 good bye")},
		{"client_closes", clientCloses},
		{"server_aborts", untilClosed("abort")},
		{"client_aborts", clientAborts},
		{"deflate", deflate},
	}
	outcomes := map[string]string{}
	for _, each := range cases {
		outcome, err := each.attempt(url)
		if err != nil {
			outcome = ended(err)
		}
		outcomes[each.name] = outcome
	}
	if err := json.NewEncoder(os.Stdout).Encode(outcomes); err != nil {
		log.Fatal(err)
	}
}
