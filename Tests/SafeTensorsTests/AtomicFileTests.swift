import Foundation
import SafeTensors
import Testing

@Suite struct AtomicFileTests {
    @Test func withoutACommit_theOldFileStays() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([1, 2, 3], "out")
        do {
            let file = try AtomicFile(path: path)
            try file.write("half")
            #expect(directory.fileNames.count == 2)
        }
        #expect(directory.fileNames == ["out"])
        #expect(FileManager.default.contents(atPath: path) == Data([1, 2, 3]))
    }

    @Test func commit_replacesTheFileAndKeepsItsMode() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([1, 2, 3], "out")
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: path)
        let file = try AtomicFile(path: path)
        try file.write("whole")
        try file.commit()
        #expect(directory.fileNames == ["out"])
        #expect(FileManager.default.contents(atPath: path) == Data("whole".utf8))
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o640)
    }

    @Test func symbolicLink_staysAndItsTargetIsReplaced() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write([1], "real")
        try FileManager.default.createSymbolicLink(atPath: directory.path("link"), withDestinationPath: path)
        let file = try AtomicFile(path: directory.path("link"))
        try file.write("new")
        try file.commit()
        #expect(FileManager.default.contents(atPath: path) == Data("new".utf8))
        #expect(directory.fileNames == ["link", "real"])
    }

    @Test func symbolicLinkToNothingYet_staysAndWhatItSaysIsMade() throws {
        let directory = try TemporaryDirectory()
        let manager = FileManager.default
        try manager.createSymbolicLink(atPath: directory.path("link"), withDestinationPath: "other")
        try manager.createSymbolicLink(
            atPath: directory.path("other"), withDestinationPath: directory.path("new"))
        let file = try AtomicFile(path: directory.path("link"))
        try file.write("new")
        try file.commit()
        #expect(manager.contents(atPath: directory.path("new")) == Data("new".utf8))
        #expect(try manager.destinationOfSymbolicLink(atPath: directory.path("link")) == "other")
        #expect(directory.fileNames == ["link", "new", "other"])
    }

    @Test func targetThatCannotBeReplaced_isAnError() throws {
        let directory = try TemporaryDirectory()
        let plain = try directory.write([1], "plain")
        let circle = directory.path("circle")
        try FileManager.default.createSymbolicLink(atPath: circle, withDestinationPath: "circle")
        for path in [
            directory.path("no/such/out"), directory.url.path, directory.path("new") + "/", plain + "/out",
            circle, "", "/dev/null", "/proc/out",
        ] {
            let error = try #require(throws: SafeTensorsError.self) { try AtomicFile.checkWritable(path) }
            #expect(error.isSystemError, "\(error)")
        }
        #expect(directory.fileNames == ["circle", "plain"])
    }

    @Test func pathsToOneFile_areTheSame() throws {
        let directory = try TemporaryDirectory()
        let manager = FileManager.default
        try manager.createDirectory(atPath: directory.path("real"), withIntermediateDirectories: false)
        try manager.createSymbolicLink(atPath: directory.path("link"), withDestinationPath: "real")
        let path = try directory.write([1], "there")
        try manager.createSymbolicLink(atPath: directory.path("real/there"), withDestinationPath: path)
        try manager.createSymbolicLink(atPath: directory.path("later"), withDestinationPath: "link/new")
        for (one, other) in [
            ("new", "new"), ("real/../new", "new"), ("real/new", "link/new"), ("there", "link/there"),
            ("later", "real/new"),
        ] {
            #expect(AtomicFile.areSame(directory.path(one), directory.path(other)), "\(one) \(other)")
        }
        for (one, other) in [
            ("new", "newer"), ("new", "real/new"), ("there", "link/new"), ("later", "new"),
            ("no/such/out", "no/such/out"), ("there", "no/such/out"),
        ] {
            #expect(!AtomicFile.areSame(directory.path(one), directory.path(other)), "\(one) \(other)")
        }
    }

    @Test func checkWritable_leavesNoTrace() throws {
        let directory = try TemporaryDirectory()
        try AtomicFile.checkWritable(directory.path("out"))
        #expect(directory.fileNames.isEmpty)
    }
}
