"""Scrapy settings: polite by default, safe to kill. Every value that is not Scrapy's default says why.

A crawl of the real sites keeps these values. ``-s CONTACT=mailto:you@example.org`` tells the site whom to ask.
"""

from __future__ import annotations

BOT_NAME = "wavtext5k-crawl"
SPIDER_MODULES = ["crawler.spiders"]

# Ours.
RAW_DIR = "data/raw"  # records and audio go to <RAW_DIR>/<spider>/
CONTACT = ""  # an address that the user agent names: mailto:... or a page
PROGRESS_SECONDS = 5.0  # between two lines of progress on stderr
PRINT_RESULT = True  # the closing table, or a dry run's plan, to stdout; wavtext5k-crawl prints it by itself

# Polite: what robots.txt says holds, one request at a time, a second apart, slower when the site is slow.
ROBOTSTXT_OBEY = True
ROBOTSTXT_USER_AGENT = BOT_NAME
CONCURRENT_REQUESTS_PER_DOMAIN = 1
DOWNLOAD_DELAY = 1.0
AUTOTHROTTLE_ENABLED = True
AUTOTHROTTLE_START_DELAY = 1.0
COOKIES_ENABLED = False  # neither site needs a session to show a sound

# Closed doors: RemoteControl runs Python code that is sent to it, and is on by default since Scrapy 2.19.
REMOTE_CONTROL_ENABLED = False
TELNETCONSOLE_ENABLED = False

# Failures.
RETRY_TIMES = 4  # a shared host that is busy for some seconds is the common case
REDIRECT_MAX_TIMES = 5
METAREFRESH_ENABLED = False  # a page that sends elsewhere by itself is not the page of a sound
DOWNLOAD_MAXSIZE = 200 * 2**20  # SoundBible's 2124 is a WAV of 400 MB; its MP3 is asked instead
URLLENGTH_LIMIT = 0  # no limit: a title makes an address long, and a request over the limit is dropped without a word
DOWNLOAD_WARNSIZE = 0  # a long recording is nothing to warn of

# Order: pages in the site's order, and each clip's audio soon after its page. The default lets 5 MB of pages wait for
# their audio, some 250 of them, and a kill loses what waits.
SCHEDULER_MEMORY_QUEUE = "scrapy.squeues.FifoMemoryQueue"
SCRAPER_SLOT_MAX_ACTIVE_SIZE = 60_000

# No JOBDIR: it loses most of a crawl on SIGKILL (scrapy issue 7978). A second run of the same command asks for what
# is missing and nothing else.
DOWNLOADER_MIDDLEWARES = {"crawler.site.StayOnSite": 50}  # before robots.txt, retries and redirects
ITEM_PIPELINES = {"crawler.pipelines.StoreClip": 300}
EXTENSIONS = {"crawler.reporter.Reporter": 0}

LOG_LEVEL = "INFO"
