package store

// Before has f called before each change that a file store makes.
func Before(s Store, f func()) {
	s.(*sealed).Store.(*ours).Store.(*directory).before = f
}
