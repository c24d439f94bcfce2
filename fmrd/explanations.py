"""This is what ``fmrctl explain CODE`` says: prose for the person on call, one entry a code, none ever renamed."""

REASONS: dict[str, str] = {
    "nothing_missed": "The plex has every write: its map is empty, so nothing is copied.",
    "fast": "FastResync: only the regions in the plex's map are copied, those written while it was away.",
    "full_new_plex": "The plex is new to the volume and holds none of its data: every region is copied once.",
    "full_fmr_off": "FastResync was off (fmr=off) while the plex was away, so nothing remembered what it missed. "
    "Turn it on with 'fmrctl set VOL fmr=on'; the next detach is tracked again.",
    "full_map_lost": "The map of the plex could not be verified on any copy of the DCO, or its own copy names it and "
    "is damaged, and a map in doubt counts as all dirty.",
    "full_backing_changed": "The plex is not as fmrd left it: of a file, inode, size or time of change differ, or "
    "nobody noted how it was left; of a file or a device, some of its bytes do. A mount that may write is enough. So "
    "none of its content is trusted. Leave detached plexes untouched, or mount them read-only without a replay of the "
    "journal (ext4: ro,noload; XFS: ro,norecovery), to get a fast resync.",
    "full_forced": "The administrator asked for a full copy (att --full).",
    "recovery": "The volume was not stopped in order. Regions that were being written then (the dirty region log "
    "names them) are copied from one plex to the others, so that all agree.",
    "hole": "Regions failed on this plex while others held them; they are copied back from those.",
    "grown": "The volume became longer, and on this plex something else lay there already (it is a device, or a longer "
    "file): what was added is copied from another plex.",
    "restore": "A restore (snapback --from-replica, undo) copies to this plex; until it has ended, what it lacks is "
    "read from another one.",
    "verify": "The copies are compared, byte by byte; nothing is copied but what --repair or --from asks for.",
    "refused_split_brain": "The plex and the volume were both written since they last agreed; the message says how "
    "much on each side. Nothing is copied before somebody says whose writes to give up: 'fmrctl plex att --discard "
    "VOL PLEX' gives up the plex's. Only what either side wrote is copied then, where the plex left its other host in "
    "order (stop, or detach) and its copy of the DCO tells all that was written there; else all of it.",
    "refused_unknown_plex": "What lies at the plex's path carries no DCO that names the plex: another disk or file, or "
    "the plex with its DCO lost; or its DCO is of a past that this volume no longer remembers. Nothing is written to "
    "it. 'fmrctl plex att --full VOL PLEX' overwrites what lies there.",
    "refused_incomplete": "The copy would leave a plex that is too short for the volume. Make it longer first.",
    "session_open": "A write failed on a plex whose bytes are not here, or was under way there when fmrd was killed: "
    "on a network file system, on FUSE, on a server's export. There an error says that nobody waits any more, not that "
    "the write is over: it may be carried out later, over newer bytes. So the plex stays out, over restarts too, until "
    "a new session proves the old one over, where the server takes one client at a time, or somebody knows better: "
    "see to it that nothing is under way (restart the server, or mount it anew), then 'fmrctl plex att --settled VOL "
    "PLEX'; where no other copy is left, 'fmrctl start --settled VOL' (of an import, --force).",
}

ERRORS: dict[str, str] = {
    "failed": "Something failed that fmrd knows no better name for; the message and the daemon's log say more.",
    "bad_request": "The request is not one the daemon understands: a wrong verb, argument or type.",
    "bad_name": "Names are made of letters, digits, '.', '_' and '-', start with a letter, digit or '_', and have "
    "at most 64 characters; that of a snapshot, which has its original's in it, at most 80.",
    "bad_size": "Sizes are bytes, or a number with K, M, G, T or P (powers of 1024; KB, MB, GB... are powers of 1000), "
    "as 1.5G. The length of a volume is a multiple of 4096: what is not given in bytes is rounded up to that. Region "
    "and extent sizes are powers of two.",
    "bad_setting": "Settings are fmr, rdpol, io_timeout, rate, auto_attach, comment and drl_extents; see 'fmrctl set "
    "--help'.",
    "unknown_code": "No error, reason or state is called that; 'fmrctl explain' lists them all.",
    "no_sources": "This fmrd was installed by a package of the system, which has put units, scripts and manual pages "
    "in place; only a wheel or a checkout has them to be put somewhere.",
    "file_changed": "A file that install-units would put in place is there, and is not what it put there: somebody "
    "changed it. Changes of units belong into drop-ins (systemctl edit); --force replaces the file.",
    "bad_conf": "A file of settings (fmrd.conf, a plan in fmrd.d, or one that fmrctl apply was given) cannot be read, "
    "is not TOML, or has a key or a value that it cannot have; the message names the file and the key.",
    "no_disk": "A plex was to be made by fmrd-vx, which knows no disk for it: [vx.disks] in fmrd.conf names "
    "directories, and each plex of a volume wants one of its own. Or name paths: -o fmrd_paths=PATH,PATH.",
    "unreachable": "Nothing answers on the control socket. Is the daemon running, and is it the same --socket?",
    "volume_exists": "A volume of this name exists already.",
    "volume_missing": "There is no volume of this name; 'fmrctl print' lists them.",
    "volume_stopped": "The volume is stopped; 'fmrctl start VOL' opens it.",
    "volume_running": "The volume is started already, or must be stopped first.",
    "volume_open": "Somebody has the volume's file open: unmount it and detach its loop device first.",
    "plex_missing": "The plex's file or device is not there.",
    "plex_unknown": "The volume has no plex of this name or path.",
    "plex_busy": "Another process owns the plex: a second daemon, another volume, a mount.",
    "plex_exists": "The path is a plex of this volume already, or something appeared there just now.",
    "refused_has_data": "Something was recognised at the path: a file system, a partition table, a file that is not "
    "empty, a plex of a volume that is not known here. --force takes it, and what is there is lost; make --from PATH "
    "keeps it.",
    "refused_in_use": "Somebody has the file or device: it is mounted, swap, a member of an array, held by another "
    "device, locked, or a plex or a copy of the DCO of a volume that is known here; or it leads back to fmrd's own "
    "mount, and a volume that lies on itself would wait for itself. --force does not take it either.",
    "refused_unsafe": "Others may change the file, or put something else in its place. The hint says what mends that.",
    "not_a_plex": "A plex is a regular file or a block device.",
    "plex_too_short": "The plex is shorter than the volume (a block device, and an export of a server, also keeps its "
    "DCO at its tail; ',dco=' puts that elsewhere).",
    "bad_uri": "A plex on another machine is named by nbd://host[:port]/export, nbds:// with TLS, "
    "nbd+unix:///export?socket=PATH, ssh://[user@]host/path, or rbd:pool/image. Behind a '?' of nbd stand "
    "tls-certificates=DIRECTORY, tls-hostname=NAME (or, with a USER@, tls-psk-file=PATH) and x-fence=single, joined by "
    "'&'; of rbd conf=PATH and id=NAME. "
    "What it does not know fmrd refuses, so that a misspelt fence is not taken for one.",
    "read_only": "The server exports it read-only, and a plex is written.",
    "not_durable": "The server offers no FLUSH: nothing that is written there is ever known to be on a disk, so it "
    "cannot be a plex. nbd-server needs flush = true (and fua = true) in the section of the export. Of an image in a "
    "Ceph cluster: it, or its pool, is set to have a cache (rbd_cache), where writes would end; the hint says which "
    "command takes that away.",
    "min_block": "The server takes no request as short as a volume's may be. nbdkit's --filter=blocksize mends that; "
    "qemu-nbd does without --cache=none. A copy of the DCO writes whole blocks of 4096 bytes, so an export of its own "
    "for that may have such blocks.",
    "not_fenced": "The URI says x-fence=single, that the server takes one client at a time, so that a new session "
    "proves the one before it to be over; and it was seen to take a second one. With nbdkit --filter=limit, or "
    "maxconnections = 1 of nbd-server, it does not. Without x-fence the plex can be used, too, but comes back after a "
    "lost session only by 'fmrctl plex att --settled'. Of an image in a Ceph cluster: it lacks the feature "
    "exclusive-lock, which proves the same, or is set to break locks without the blocklist.",
    "tls_refused": "There is no TLS with the server, or no TLS that can be trusted: its certificate, or ours, was not "
    "accepted, one of both wants TLS and the other has none, or the files cannot be read. fmrd never goes on without.",
    "server_refused": "The server knows the export, and does not give it; its own words are in the message.",
    "server_malformed": "What answered does not speak NBD, or breaks its rules; nothing of what it says is believed.",
    "plex_too_many": "The DCO has no column left for another plex, snapshot or mark, and gets none: it has as many as "
    "there may be, or a plex of the volume has its DCO at the end of a device, where it cannot grow (plex add "
    "PATH,dco=FILE puts it in a file).",
    "plex_state": "The plex is not in a state from which this can be done.",
    "last_plex": "The plex is the only one with current data for some region. fmrd never gives up the last copy; "
    "stop or remove the volume instead.",
    "snap_missing": "The volume has no snapshot plex that is ready (SNAPDONE): prepare one with 'fmrctl snapstart VOL "
    "PATH' and wait for it with 'fmrctl snapwait VOL'.",
    "snap_unknown": "The volume is no snapshot of another one (any more).",
    "snap_of_snap": "A snapshot of a snapshot cannot be taken: take it of the original.",
    "snap_present": "The volume has snapshots: give them back (snapback), or forget what ties them (snapclear).",
    "snap_invalid": "The snapshot could not keep the old data of some regions, because its file failed, was full or "
    "away when the original was written. The original is not affected; remove the snapshot and take another one.",
    "snap_in_store": "The snapshot lies in a store, whose room it shares with others; what was asked for would make a "
    "full copy of its file. To put its data back, 'fmrctl restore VOL --from SNAP' copies only what differs; for "
    "another one, take it anew.",
    "store_missing": "There is no store of this name; 'fmrctl store list' lists them.",
    "store_exists": "A store of this name exists already, or another one has that directory.",
    "store_full": "A store has no room for this. An original never waits for room: for its old data the oldest "
    "snapshot in the store is given up, and says so. For what snapshots' own users write, and for a new snapshot, "
    "nothing is given up. 'fmrctl store resize NAME SIZE' makes it larger; or remove snapshots that nobody needs.",
    "store_in_use": "Snapshots lie in the store, or take more of it than it is to have: remove some first.",
    "store_unusable": "The directory cannot be a store: it cannot be made, takes no files, or its file system cannot "
    "give room back (punch holes).",
    "stores_damaged": "The file 'stores' in the state directory, which remembers the stores, is not one: nothing is "
    "written over it. Snapshots in stores go on without a quota meanwhile.",
    "snap_instant": "The snapshot was taken with --instant and holds only what was written over since; the rest it "
    "reads from its original.",
    "undo_present": "An earlier restore kept what the volume was before; only one such state is kept at a time.",
    "not_recovered": "There are plexes that are out, and recover could attach none of them; what it prints says why.",
    "no_room": "What would be copied to a plex, or a copy of the DCO that must grow, may not fit on its file system; "
    "nothing was changed. Make room there.",
    "undo_missing": "No restore with --keep-undo was made, or it was undone or removed already.",
    "undo_impossible": "Keeping an undo needs plex files on a file system that can share blocks (XFS with reflinks, "
    "btrfs): the clone costs nothing there. Elsewhere it would be a full copy, so it is refused.",
    "freeze_failed": "The file system could not be frozen, so no snapshot was taken. Give the directory where it is "
    "mounted; not every kind can be frozen.",
    "refused_freeze": "The file system carries the state directory, a plex or the daemon's log: frozen, it would hold "
    "up the very snapshot that it is frozen for, and every volume with a plex there. What the message names must lie "
    "elsewhere; or take the snapshot without --freeze, after a 'sync'.",
    "plex_hung": "A system call issued on the plex, by this daemon or by one before it that was left behind, has not "
    "returned; it cannot join before that has ended.",
    "no_current_plex": "No plex that is here is complete and current. Bring back the one that is; what the message "
    "names says which.",
    "home_missing": "There is no home copy of that name in the state directory.",
    "home_damaged": "The home copy of the DCO cannot be read. 'fmrctl import PATH...' makes a new one from the plexes.",
    "home_failed": "The home copy of the DCO cannot be written (a full or failing disk under the state directory). "
    "No write is done without its mark.",
    "home_torn": "One record slot of the home copy is damaged and a plex that might hold the newest record is absent. "
    "Bring that plex back, or accept the older record with 'start --force'.",
    "foreign_plex": "The plex has a newer past than the home copy knows: the home copy was rolled back (its record, or "
    "only its maps), or the plex was used elsewhere. 'import' takes the plex's line; 'start --without PLEX' goes on "
    "without it.",
    "plexes_changed": "Every plex was changed since the volume was stopped. 'start --accept PLEX' takes that plex as "
    "it is; the others are then fully copied from it.",
    "split_brain": "Plexes were written separately since they last agreed; choose one with --prefer.",
    "not_imported": "The paths do not hold what an import needs; the message says which.",
    "dco_damaged": "Neither record slot of the DCO is valid.",
    "dco_missing": "There is no DCO beside the plex.",
    "dco_feature": "The DCO was written by a newer fmrd and uses a feature this one does not know.",
    "dco_full": "The DCO has no room left for this, or the maps of a volume and its snapshots would be larger than "
    "fmrd keeps in memory: larger regions make them smaller.",
    "not_all": "A verb over all volumes failed on one of them, and was taken back on the others; the message says why.",
    "not_confirmed": "The verb gives something up, and the question on the terminal was not answered with yes.",
    "loop_failed": "The loop device could not be made or detached; the message is that of losetup.",
    "task_missing": "There is no task with this id, or none that runs with this tag; 'fmrctl task list --all' shows "
    "those that have ended, too.",
    "task_ended": "The task has ended already.",
    "task_failed": "The copy did not run to its end; its map is kept, and the next attach goes on from there.",
    "stopping": "The daemon is going down; ask again when it is back.",
    "daemon_running": "Another daemon owns the state directory, or answers on the control socket.",
    "mount_failed": "The FUSE mount could not be made, or was taken away.",
    "door_missing": "The door that --door or FMRD_DOOR names needs a library that is not there: for pyfuse3 that is "
    "pyfuse3, with libfuse ('pip install pyfuse3' where fmrd is installed). The channel door needs neither.",
    "metrics_failed": "Metrics cannot be given where --metrics wants them; the message says why.",
    "top_missing": "The live view of fmrctl top needs a library that is not there: pip install 'fmrd[top]'. "
    "fmrctl stat shows the same figures.",
    "socket_failed": "The control socket could not be made; the message says why.",
    "state_failed": "The state directory cannot be made or used; the message says why.",
    "not_allowed": "Only root and the user that the daemon runs as may command it.",
    "too_many_clients": "Too many commands are being served at once; try again when some have ended.",
    "suspect": "An fsync failed on the only copy of some regions; flushes fail until they were written again, because "
    "nobody knows whether the old writes reached the disk.",
    "nothing_to_compare": "A comparison takes two attached plexes; attach the others first.",
    "plexes_differ": "Copies that should be the same are not: a disk lied, or something wrote to a plex behind fmrd's "
    "back. Of three or more copies the majority tells which is wrong; of two the checksum from an earlier verify, if "
    "nobody wrote there since. 'fmrctl verify VOL --repair' writes what is proven anew. Where nobody can tell, 'fmrctl "
    "verify VOL --from PLEX' makes the others like that plex.",
    "exhausted": "This process or the machine has no more of something: open files, memory, threads. The message names "
    "the limit. That says nothing about a disk: no plex counts as absent or without its DCO because of it, and a "
    "volume that did not start at boot is tried again by itself.",
    "io_error": "Input or output failed on every plex that holds the data.",
    "beyond_end": "The write reaches past the end of the volume.",
    "mark_missing": "The volume has no mark of this name; 'fmrctl mark VOL' lists those that it has.",
    "mark_exists": "The volume has a mark of this name. 'fmrctl mark VOL NAME --reset' empties it and begins anew, "
    "which gives up what it told.",
    "mark_unfit": "The mark was set after the snapshot was taken, so its map says nothing of what was written before. "
    "Compare with another snapshot, or send all of it.",
    "snap_unrelated": "Two snapshots of different volumes have no map between them. Snapshots of one volume do.",
    "stream_unfit": "The stream does not lead from what the volume holds to what it says: it is of another length, or "
    "only what changed since a state that the volume does not hold, or not any more. The message says what it holds, "
    "the hint what would fit. Nothing was changed.",
    "stream_damaged": "The stream is not what the sender wrote, or no stream of fmrd. What was verified before stays "
    "for --resume; the volume is as it was.",
    "stream_cut": "The stream ends before its end. The volume is as it was; 'fmrctl receive VOL --token' tells where "
    "to go on.",
    "stream_changed": "The snapshot was written, stopped or taken anew while it was sent, so the stream has no end and "
    "no receiver takes it. Send a snapshot that nobody writes to.",
    "receive_present": "A stream is being received into this snapshot of the volume. It is whole only when the end of "
    "the stream was verified.",
    "receive_lost": "What came of a stream since that was last noted may be gone: fmrd was started anew meanwhile, or "
    "its disk failed a flush. 'fmrctl receive VOL --token' tells where to go on.",
    "receive_missing": "No stream is being received into the volume, or another one.",
    "spool_missing": "What a stream brings is kept in a file until all of it is verified; --spool says where.",
    "stream_packing": "A stream may be packed by zstd, where Python has a module for that; the sender can do without.",
    "stream_missing": "The file of a stream is not there, or cannot be read.",
    "stream_file": "The file for a stream cannot be written, or one of that name is there already. Nothing is left.",
    "night_failed": "A step of the volume's night failed; what it says of that step is the reason, and what did not "
    "depend on it was done. 'fmrctl status' tells it until a night goes well.",
    "night_running": "Another 'fmrctl nightly' is at work on this volume.",
}
