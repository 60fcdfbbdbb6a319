package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/livecd-sync/livecd-sync/internal/bmc"
	"github.com/livecd-sync/livecd-sync/internal/site"
)

// partSize is how much of a file is kept in memory while it is sent. A file has
// at most 10,000 parts: 156 GiB.
const partSize = 16 << 20

// abortWithin is how long a server is given to forget an upload that failed.
const abortWithin = time.Minute

// s3Tries is how often a request is sent that had no answer, or one that says to
// come again.
const s3Tries = 4

// s3Medium keeps a store in a bucket of an S3 server, below a prefix. Of the
// server it wants what Amazon's has had since 2024, and others with it:
// listings that show at once what was written, and conditional writes
// (If-None-Match, If-Match). The bucket has to be there.
type s3Medium struct {
	name, bucket, prefix string
	place                site.S3
	secret               func(context.Context, site.SecretRef) (bmc.Secret, error)
	transport            *http.Transport

	mu     sync.Mutex
	client *minio.Core // nil before the first use
}

func newS3(s site.Store, u *url.URL, c Config) (*s3Medium, error) {
	m := &s3Medium{name: s.Name, bucket: u.Host, prefix: strings.Trim(path.Clean("/"+u.Path), "/"), secret: c.Secret}
	e := &bmc.Error{Op: "open store " + s.Name, Kind: bmc.KindUnsupported, Hint: "write stores." + s.Name + ".endpoint: https://host:port"}
	if s.S3 == nil {
		e.Err = errors.New("it is on an S3 server, and nothing says which")
		return nil, e
	}
	m.place = *s.S3
	endpoint, err := url.Parse(m.place.Endpoint)
	if err != nil || endpoint.Host == "" || (endpoint.Scheme != "https" && endpoint.Scheme != "http") {
		e.Err = fmt.Errorf("%q is no place of an S3 server", m.place.Endpoint)
		return nil, e
	}
	if m.transport, err = minio.DefaultTransport(endpoint.Scheme == "https"); err != nil {
		e.Err = err
		return nil, e
	}
	if m.transport.TLSClientConfig, err = tlsConfig(m.place.TLS); err != nil {
		e.Kind, e.Err = bmc.KindTLS, err
		e.Hint = "name a PEM file with the certificate of the server's authority in stores." + s.Name + ".tls"
		return nil, e
	}
	return m, nil
}

// tlsConfig says which certificate the server must show.
func tlsConfig(want site.TLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case want.Insecure:
		c.InsecureSkipVerify = true // the site file says so
	case want.Fingerprint != "":
		c.InsecureSkipVerify = true // VerifyConnection compares the certificate itself
		c.VerifyConnection = func(s tls.ConnectionState) error {
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			shown := hex.EncodeToString(sum[:])
			if shown != strings.ReplaceAll(strings.TrimPrefix(want.Fingerprint, "sha256:"), ":", "") {
				return &certificateError{"sha256:" + shown}
			}
			return nil
		}
	case want.CA != "":
		pem, err := os.ReadFile(want.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", want.CA)
		}
	}
	return c, nil
}

// A certificateError is another certificate than the one that is wanted.
type certificateError struct{ shown string }

// Error tells what was shown.
func (e *certificateError) Error() string {
	return "the server shows the certificate " + e.shown + ", which is not the one that is wanted"
}

// Close ends the connections that are not in use.
func (m *s3Medium) Close() error {
	m.transport.CloseIdleConnections()
	return nil
}

// connect prepares the client, for which it fetches the keys. Requests connect.
func (m *s3Medium) connect(ctx context.Context) (*minio.Core, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client != nil {
		return m.client, nil
	}
	access, err := m.secret(ctx, m.place.AccessKey)
	if err != nil {
		return nil, err
	}
	secret, err := m.secret(ctx, m.place.SecretKey)
	if err != nil {
		return nil, err
	}
	endpoint, err := url.Parse(m.place.Endpoint)
	if err != nil {
		return nil, err
	}
	client, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(access.Reveal(), secret.Reveal(), ""),
		Secure: endpoint.Scheme == "https", Transport: m.transport, Region: m.place.Region, MaxRetries: s3Tries,
	})
	m.client = client
	return client, err
}

// coded gives what the server refuses the meaning that a medium's callers know.
func coded(err error) error {
	if err == nil {
		return nil
	}
	answer := minio.ToErrorResponse(err)
	switch {
	case answer.Code == minio.NoSuchKey:
		return fs.ErrNotExist
	case answer.Code == minio.PreconditionFailed, answer.Code == "ConditionalRequestConflict":
		return fs.ErrExist
	case slices.Contains([]string{"QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}, answer.Code),
		answer.StatusCode == http.StatusInsufficientStorage:
		return errFull
	}
	return err
}

// explain makes an error of the server or the connection one for people.
func (m *s3Medium) explain(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*bmc.Error](err); ok {
		return err
	}
	key := "stores." + m.name
	e := &bmc.Error{Op: "store " + m.name, Kind: bmc.KindOverlay, Err: err}
	_, wrong := errors.AsType[*certificateError](err)
	_, unknown := errors.AsType[*tls.CertificateVerificationError](err)
	answer := minio.ToErrorResponse(err)
	switch {
	case errors.Is(err, errFull):
		e.Hint = "make room on the S3 server, or raise the quota; see: livecd-sync backups prune"
	case errors.Is(err, fs.ErrNotExist):
		e.Hint = "see " + key + ".url in the site file, and: livecd-sync backups list"
	case errors.Is(err, fs.ErrExist):
		e.Hint = "run the command again; another livecd-sync wrote at the same time"
	case errors.Is(err, context.Canceled):
		e.Kind, e.Hint = bmc.KindCancelled, "run the command again"
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Hint = bmc.KindTimeout, "see whether the S3 server is well, and run the command again"
	case wrong, unknown:
		e.Kind, e.Hint = bmc.KindTLS, "compare the certificate on the server, and see "+key+".tls"
	case answer.StatusCode != 0:
		m.explainAnswer(e, answer)
	default:
		e.Kind = bmc.KindUnreachable
		e.Hint = "see whether the S3 server is up, and " + key + ".endpoint in the site file"
	}
	return e
}

// explainAnswer explains what the server refused.
func (m *s3Medium) explainAnswer(e *bmc.Error, answer minio.ErrorResponse) {
	key := "stores." + m.name
	e.Err = fmt.Errorf("the S3 server refuses it: %s (%d)", answer.Code, answer.StatusCode)
	switch {
	case answer.Code == minio.NoSuchBucket:
		e.Hint = "make the bucket " + m.bucket + " on the server, or see " + key + ".url"
	case answer.Code == "RequestTimeTooSkewed":
		e.Kind, e.Hint = bmc.KindAuth, "set this machine's clock, or the server's: they differ too much"
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		e.Kind = bmc.KindAuth
		e.Hint = "see " + key + ".accessKey and .secretKey, and whether they may list, read, write and delete in " + path.Join(m.bucket, m.prefix)
	case answer.StatusCode == http.StatusNotImplemented:
		e.Kind, e.Hint = bmc.KindUnsupported, "use a server, or a version of it, that has conditional writes (If-None-Match)"
	case answer.StatusCode >= http.StatusInternalServerError:
		e.Kind, e.Hint = bmc.KindUnreachable, "see the S3 server's log, and run the command again"
	default:
		e.Hint = "see the S3 server's log, and " + key + " in the site file"
	}
}

func (m *s3Medium) key(name string) string { return path.Join(m.prefix, name) }

func (m *s3Medium) list(ctx context.Context, dir string) ([]string, error) {
	client, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	prefix := m.key(dir) + "/"
	var names []string
	for o := range client.ListObjectsIter(ctx, m.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return nil, coded(o.Err)
		}
		if name := strings.Trim(strings.TrimPrefix(o.Key, prefix), "/"); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

func (m *s3Medium) open(ctx context.Context, name string) (io.ReadCloser, error) {
	f, _, _, err := m.get(ctx, name)
	return f, err
}

// get opens an object and tells what it is.
func (m *s3Medium) get(ctx context.Context, name string) (io.ReadCloser, minio.ObjectInfo, http.Header, error) {
	client, err := m.connect(ctx)
	if err != nil {
		return nil, minio.ObjectInfo{}, nil, err
	}
	f, info, header, err := client.GetObject(ctx, m.bucket, m.key(name), minio.GetObjectOptions{})
	if err != nil {
		return nil, info, nil, coded(err)
	}
	return f, info, header, nil
}

// write sends what is written in parts, from another goroutine, which ends with
// ctx. The object is there once it is whole.
func (m *s3Medium) write(ctx context.Context, name string) (io.WriteCloser, error) {
	client, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	from, to := io.Pipe()
	w := &s3Writing{PipeWriter: to, done: make(chan error, 1)}
	stop := context.AfterFunc(ctx, func() { to.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer stop()
		err := coded(m.stream(ctx, client, name, from))
		from.CloseWithError(err)
		w.done <- err
	}()
	return w, nil
}

// stream sends a file of a size that is not known: a small one, such as a list of
// names, in one request, and others in parts.
func (m *s3Medium) stream(ctx context.Context, client *minio.Core, name string, from io.Reader) error {
	const small = 1 << 20
	var head bytes.Buffer
	n, err := io.CopyN(&head, from, small)
	switch {
	case errors.Is(err, io.EOF):
		_, err = client.Client.PutObject(ctx, m.bucket, m.key(name), &head, n, minio.PutObjectOptions{})
	case err == nil:
		err = m.streamParts(ctx, client, m.key(name), io.MultiReader(&head, from))
	}
	return err
}

// streamParts sends each part with a signature of all of it, where nothing
// encrypts it. The library would sign it in chunks, which not every server takes
// apart in an upload in parts: gofakes3, and rclone's "serve s3" with it, store
// the signatures along.
func (m *s3Medium) streamParts(ctx context.Context, client *minio.Core, key string, from io.Reader) (err error) {
	upload, err := client.NewMultipartUpload(ctx, m.bucket, key, minio.PutObjectOptions{})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWithin)
			defer cancel()
			_ = client.AbortMultipartUpload(ctx, m.bucket, key, upload) // else the next backup sweeps it
		}
	}()
	var parts []minio.CompletePart
	buf := make([]byte, partSize)
	for number := 1; ; number++ {
		n, readErr := io.ReadFull(from, buf)
		if n > 0 {
			part, err := m.sendPart(ctx, client, key, upload, number, buf[:n])
			if err != nil {
				return err
			}
			parts = append(parts, minio.CompletePart{PartNumber: number, ETag: part.ETag})
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return readErr
		}
	}
	_, err = client.CompleteMultipartUpload(ctx, m.bucket, key, upload, parts, minio.PutObjectOptions{})
	return err
}

func (m *s3Medium) sendPart(ctx context.Context, client *minio.Core, key, upload string, number int, data []byte) (minio.ObjectPart, error) {
	options := minio.PutObjectPartOptions{DisableContentSha256: true}
	if strings.HasPrefix(m.place.Endpoint, "http:") {
		options.Sha256Hex = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	return client.PutObjectPart(ctx, m.bucket, key, upload, number, bytes.NewReader(data), int64(len(data)), options)
}

// s3Writing is an object that is written.
type s3Writing struct {
	*io.PipeWriter
	done chan error
	once sync.Once
	err  error
}

// Close ends the object and waits until the server has it.
func (w *s3Writing) Close() error {
	w.once.Do(func() {
		_ = w.PipeWriter.Close() // never fails
		w.err = <-w.done
	})
	return w.err
}

func (m *s3Medium) put(ctx context.Context, name string, data []byte) error {
	return m.send(ctx, name, data, minio.PutObjectOptions{})
}

func (m *s3Medium) send(ctx context.Context, name string, data []byte, options minio.PutObjectOptions) error {
	client, err := m.connect(ctx)
	if err != nil {
		return err
	}
	_, err = client.Client.PutObject(ctx, m.bucket, m.key(name), bytes.NewReader(data), int64(len(data)), options)
	return coded(err)
}

func (m *s3Medium) claim(ctx context.Context, name string, data []byte) error {
	var options minio.PutObjectOptions
	options.SetMatchETagExcept("*")
	return m.send(ctx, name, data, options)
}

func (m *s3Medium) replace(ctx context.Context, name string, old, data []byte) error {
	f, info, _, err := m.get(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) {
		return fs.ErrExist
	}
	var options minio.PutObjectOptions
	options.SetMatchETag(info.ETag)
	return m.send(ctx, name, data, options)
}

// age compares two times of one answer.
func (m *s3Medium) age(ctx context.Context, name string) (time.Duration, error) {
	f, info, header, err := m.get(ctx, name)
	if err != nil {
		return 0, err
	}
	f.Close()
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("the server's answer has no date: %w", err)
	}
	return now.Sub(info.LastModified), nil
}

func (m *s3Medium) remove(ctx context.Context, name string) error {
	client, err := m.connect(ctx)
	if err != nil {
		return err
	}
	return gone(coded(client.RemoveObject(ctx, m.bucket, m.key(name), minio.RemoveObjectOptions{})))
}

func (m *s3Medium) removeAll(ctx context.Context, dir, first string) error {
	client, err := m.connect(ctx)
	if err != nil {
		return err
	}
	if first != "" {
		if err := m.remove(ctx, path.Join(dir, first)); err != nil {
			return err
		}
	}
	keys := []string{m.key(dir)} // which may be a file
	options := minio.ListObjectsOptions{Prefix: m.key(dir) + "/", Recursive: true}
	for o := range client.ListObjectsIter(ctx, m.bucket, options) {
		if o.Err != nil {
			return coded(o.Err)
		}
		keys = append(keys, o.Key)
	}
	for _, key := range keys {
		if err := gone(coded(client.RemoveObject(ctx, m.bucket, key, minio.RemoveObjectOptions{}))); err != nil {
			return err
		}
	}
	return m.sweep(ctx, dir)
}

// sweep aborts uploads in parts whose writers are gone. They are not listed, and
// take room.
func (m *s3Medium) sweep(ctx context.Context, dir string) error {
	client, err := m.connect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the listing
	for u := range client.ListIncompleteUploads(ctx, m.bucket, m.key(dir)+"/", true) {
		if u.Err != nil && minio.ToErrorResponse(u.Err).Code == minio.NoSuchUpload {
			break // how some servers say that there is none
		}
		if u.Err != nil {
			return coded(u.Err)
		}
		err := client.AbortMultipartUpload(ctx, m.bucket, u.Key, u.UploadID)
		if err != nil && minio.ToErrorResponse(err).Code != minio.NoSuchUpload {
			return coded(err)
		}
	}
	return nil
}
