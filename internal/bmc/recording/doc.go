// Package recording writes down what was said between livecd-sync and BMCs, and
// answers in a BMC's place from what was written.
//
// A recording is a directory of directories, one for each BMC:
//
//	DIR/x3000c0s3b0/recording.json                 which BMC, when, for which nodes
//	DIR/x3000c0s3b0/0001-GET-redfish-v1.json       an exchange: what was asked, what was answered
//	DIR/x3000c0s3b0/0002-GET-Systems.json
//
// Recorder is put around the transport that carries every request. Secrets
// never get into a file. Serial numbers, addresses and names are replaced only
// when that is asked for, each by the same stand-in wherever it is, so that
// links still lead where they did.
//
// A Recording is served as a BMC: reads are answered by path, and once a recorded
// write has been asked for, by what was read after it. What was not recorded is
// answered with an error that says so. The tree of a published mockup, in which
// redfish/v1/Systems/index.json is the body of /redfish/v1/Systems, is a
// recording of reads.
//
// The package knows neither the client nor the simulated machines.
package recording
