package imageserver

import (
	"io"
	"net/http"
	"os"

	"github.com/livecd-sync/livecd-sync/internal/media/isomap"
)

// Pieces of an answer. The last bytes are sent by themselves, after the file was
// seen to be still the same, so that no answer is complete that might hold other
// bytes.
const (
	piece    = 1 << 20
	lastPart = 2048
)

// A transfer is an answer that is being sent. It is a ResponseWriter whose
// ReadFrom http.ServeContent finds and uses.
type transfer struct {
	http.ResponseWriter
	control *http.ResponseController
	server  *Server
	image   *image
	file    *os.File
	sent    func(isomap.Span)
}

// ReadFrom sends from the image's file, by sendfile where the connection is one
// of TCP: the writer below finds an *os.File inside an io.LimitedReader, which is
// what it needs to see for that.
func (t *transfer) ReadFrom(src io.Reader) (int64, error) {
	body, ok := src.(*io.LimitedReader)
	if !ok || body.R != io.Reader(t.file) {
		panic("imageserver: what is sent is not the image") // ServeContent sends what it was given
	}
	var total int64
	for body.N > 0 {
		n := min(piece, body.N)
		if n == body.N && n > lastPart {
			n -= lastPart
		}
		sent, err := t.sendPiece(n)
		total += sent
		body.N -= sent
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func (t *transfer) sendPiece(n int64) (int64, error) {
	at, err := t.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if t.image.unchanged(t.file) != nil {
		panic(http.ErrAbortHandler) // the header is sent: all that is left is to cut the connection
	}
	// Who takes no bytes at all, or a few now and then, does not keep the connection.
	if err := t.control.SetWriteDeadline(t.server.now().Add(t.server.limits.Piece)); err != nil {
		return 0, err
	}
	below, ok := t.ResponseWriter.(io.ReaderFrom)
	if !ok {
		below = copier{t.ResponseWriter}
	}
	sent, err := below.ReadFrom(&io.LimitedReader{R: t.file, N: n})
	t.sent(isomap.Span{From: at, To: at + sent})
	if err == nil && sent < n {
		err = io.ErrUnexpectedEOF
	}
	return sent, err
}

// A copier is a writer without a ReadFrom of its own, such as a test's recorder.
type copier struct{ w io.Writer }

func (c copier) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c.w}, r) }
